"""The command line: parse, call, print. Heavy libraries are imported by the command that needs them.

Exit codes: 0 done, 1 a case failed or fell outside its tolerance, 2 a user's mistake.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from profiler import __version__
from profiler.errors import LatentmeterError, UserError
from profiler.workload import ATTENTIONS, DTYPES, STAGES, History, MemoryOptions, option_names

Command = TypeVar("Command", bound=Callable[..., Any])
EXIT_FAILED, EXIT_USER = 1, 2


class Pixels(click.ParamType[tuple[int, ...]]):
    """Whole numbers joined by x, such as HEIGHTxWIDTH."""

    def __init__(self, form: str, example: str) -> None:
        self.name, self.example = form, example

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[int, ...]:
        """The numbers of text such as 256x384."""
        parts = str(value).lower().split("x")
        if len(parts) != len(self.example.split("x")) or not all(part.isdigit() for part in parts):
            self.fail(f"{value!r} is not {self.name}, such as {self.example}", param, context)
        return tuple(int(part) for part in parts)


def workload_options(command: Command) -> Command:
    """The options that make a workload; sizes default to the model's published ones."""
    options = [
        click.option("--stage", type=click.Choice(STAGES), default="decode", show_default=True, help="What is run."),
        click.option("--frames", type=int, help="Pixel frames."),
        click.option("--height", type=int, help="Pixels."),
        click.option("--width", type=int, help="Pixels."),
        click.option("--batch", type=int, default=1, show_default=True, help="Clips or images at once."),
        click.option("--dtype", type=click.Choice(DTYPES), help="Default: the component's usual one."),
        click.option("--tiling", is_flag=True, help="The VAE's own tiling."),
        click.option("--tile", type=Pixels("HEIGHTxWIDTH", "256x256"), help="Tile size in pixels, with --tiling."),
        click.option("--slicing", is_flag=True, help="The VAE's slicing: one batch item at a time."),
        click.option("--framewise", is_flag=True, help="The VAE's framewise coding."),
        click.option("--channels-last", is_flag=True, help="Convolution weights in channels-last order."),
        click.option("--attention", type=click.Choice(ATTENTIONS), help="Pin the attention kernel."),
        click.option("--autocast", type=click.Choice(["bf16", "fp16"]), help="Run fp32 weights under torch.autocast."),
        click.option("--benchmark", is_flag=True, help="cudnn.benchmark: convolution plans are timed at their first call."),
        click.option(
            "--after", type=Pixels("FRAMESxHEIGHTxWIDTH", "81x480x832"), multiple=True,
            help="A size that the process ran before (frames, pixels); may be repeated.",
        ),
        click.option("--empty-cache", is_flag=True, help="torch.cuda.empty_cache() before the call."),
        click.option("--device-map", is_flag=True, help="Weights loaded as from_pretrained(device_map=...) does."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def stack_options(command: Command) -> Command:
    """The options that name the stack of an estimate."""
    options = [
        click.option("--gpu", help="Card to estimate for. Default: this machine's, or an H200 where there is none."),
        click.option("--torch", "torch_version", help="torch release to estimate for. Default: the installed one."),
        click.option("--cudnn", type=int, help="cuDNN version as torch prints it (90701). Default: torch's own."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _gather(values: dict[str, Any]) -> None:
    """Put the single options of `workload_options` into `options` and `history`, as the verbs take them."""
    values["options"] = MemoryOptions(**{name: values.pop(name) for name in option_names()})
    values["history"] = History(
        sizes=values.pop("after"), empty_cache=values.pop("empty_cache"), device_map=values.pop("device_map")
    )


json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output, nothing else."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="latentmeter")
def cli() -> None:
    """How much GPU memory a latent diffusion model needs: estimated, measured, compared."""


@cli.command()
@click.option("--frames", type=int, required=True, help="Pixel frames.")
@click.option("--height", type=int, required=True, help="Pixels.")
@click.option("--width", type=int, required=True, help="Pixels.")
@click.option("--channels", type=int, required=True, help="Latent channels.")
@click.option("--spatial", type=int, required=True, help="Spatial compression.")
@click.option("--temporal", type=int, required=True, help="Temporal compression.")
@click.option("--batch", type=int, default=1, show_default=True)
@click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16", "fp8"]), default="fp16", show_default=True)
@click.option("--patch", type=int, default=1, show_default=True, help="Spatial patch of the denoiser.")
@json_option
def latent(
    frames: int, height: int, width: int, channels: int, spatial: int, temporal: int, batch: int, dtype: Any, patch: int,
    as_json: bool,
) -> None:  # fmt: skip
    """The latent tensor of a clip, in closed form: shape, bytes, tokens."""
    from profiler.latent import estimate_video_latent_memory
    from profiler.show import show_latent

    found = estimate_video_latent_memory(
        frames, height, width, channels, spatial, temporal, batch_size=batch, dtype=dtype, patch_size=patch
    )
    _answer(dict(found), as_json, show_latent)


@cli.command()
@click.argument("model", required=False)
@json_option
def models(model: str | None, as_json: bool) -> None:
    """List the catalog, or show MODEL with the source of each value."""
    from profiler.models.catalog import catalog
    from profiler.models.find import find_model
    from profiler.show import show_model, show_models

    if model is None:
        _answer(
            {name: spec.model_dump(by_alias=True) for name, spec in catalog().items()},
            as_json,
            lambda _: show_models(catalog()),
        )
    else:
        spec = find_model(model)
        _answer(spec.model_dump(by_alias=True), as_json, lambda _: show_model(spec))


@cli.command()
@click.argument("model")
@workload_options
@stack_options
@click.option("--no-cache", is_flag=True, help="Neither read nor keep anything on disk.")
@json_option
def estimate(
    model: str, stage: Any, gpu: str | None, torch_version: str | None, cudnn: int | None, no_cache: bool, as_json: bool,
    **values: Any,
) -> None:  # fmt: skip
    """What MODEL needs for one stage, without a GPU.

    MODEL is a catalog id, a YAML file, a diffusers class, a component's config.json, a diffusers folder or a hub id. A first
    answer is traced; a process at low priority then records it for other heights and widths, which are answered without
    importing torch.
    """
    from profiler import api
    from profiler.records import to_dict
    from profiler.show import show_estimate

    _gather(values)
    found = api.estimate(model, stage, gpu=gpu, torch=torch_version, cudnn=cudnn, cache=not no_cache, **values)
    _answer(to_dict(found), as_json, lambda _: show_estimate(found))
    if not no_cache:
        api.record(found)


@cli.command()
@click.argument("model")
@workload_options
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option("--warm-calls", type=click.IntRange(0), default=3, show_default=True, help="Calls after the cold one.")
@click.option("--timeout", type=float, default=600.0, show_default=True, help="Seconds.")
@json_option
def measure(model: str, stage: Any, device: Any, warm_calls: int, timeout: float, as_json: bool, **values: Any) -> None:
    """Run one stage of MODEL with real tensors, in a process of its own."""
    from profiler import api
    from profiler.records import to_dict
    from profiler.show import show_measurement

    _gather(values)
    record = api.measure(model, stage, device=device, warm_calls=warm_calls, timeout=timeout, **values)
    _answer(to_dict(record), as_json, lambda _: show_measurement(record))
    sys.exit(0 if record.status == "ok" else EXIT_FAILED)


@cli.command()
@click.argument("model")
@workload_options
@stack_options
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="Measure here instead of estimating.")
@click.option("--measured", type=click.Path(path_type=Path), help="Folder of a run that kept this case's events.")
@click.option("--no-remedies", is_flag=True, help="Leave out the estimates with options on.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write a page: FILE.html.")
@click.option("--export", "exports", multiple=True, help="KIND=FILE: snapshot, chrome, csv or stacks. Repeatable.")
@click.option("--export-dir", type=click.Path(path_type=Path), help="Folder for all four exports.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@json_option
def hotspots(
    model: str, stage: Any, gpu: str | None, torch_version: str | None, cudnn: int | None, device: Any,
    measured: Path | None, no_remedies: bool, out: Path | None, exports: tuple[str, ...], export_dir: Path | None,
    force: bool, as_json: bool, **values: Any,
) -> None:  # fmt: skip
    """Where the peak of one stage of MODEL is, why its bytes are alive, and what would take them away."""
    from profiler.hotspots import api
    from profiler.hotspots.export import export, parse, refuse_existing
    from profiler.hotspots.show import show_hotspots

    if len([given for given in (device, measured, gpu or torch_version or cudnn) if given]) > 1:
        raise UserError(
            "--device, --measured and the stack of an estimate (--gpu, --torch, --cudnn) exclude each other"
        )
    _gather(values)
    paths = parse(exports, export_dir)
    refuse_existing([*paths.values(), *filter(None, [out])], force)
    found, profile = api.hotspots(
        model, stage, gpu=gpu, torch=torch_version, cudnn=cudnn, device=device, run=measured,
        remedies=not no_remedies, **values,
    )  # fmt: skip
    export(profile, paths)
    if out is not None:
        from profiler.hotspots.page import render_page

        out.write_text(render_page(found), encoding="utf-8")
    _answer(found.to_dict(), as_json, lambda _: show_hotspots(found))


@cli.command()
@click.argument("config")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run. Default: results/<name of the sweep>.")
@click.option("--resume", is_flag=True, help="Go on with the run in the folder (the default where there is one).")
@click.option("--force", is_flag=True, help="Replace the run in the folder.")
@click.option("--retry", is_flag=True, help="Run cases again that ended in a timeout or crash.")
@click.option("--budget-minutes", type=float, help="Stop cleanly within this time; run again to go on.")
@click.option(
    "--events/--no-events", default=None, help="Keep each case's allocator events. Default: as the sweep says."
)
def run(
    config: str, out: Path | None, resume: bool, force: bool, retry: bool, budget_minutes: float | None,
    events: bool | None,
) -> None:  # fmt: skip
    """Run the sweep CONFIG (a file, or the name of a shipped one) and write its report.

    Each case is saved as it ends. The same command again goes on where the run stood.
    """
    from profiler.compare import within_tolerance
    from profiler.run.plan import find_sweep
    from profiler.run.publish import publish
    from profiler.run.sweep import RunOptions, run_sweep
    from profiler.show import show_progress, show_run

    if resume and force:
        raise UserError("--resume and --force exclude each other")
    sweep = find_sweep(config)
    if events is not None:
        sweep = sweep.model_copy(update={"events": events})
    directory = out or Path("results") / sweep.name
    options = RunOptions(force=force, retry=retry, budget_minutes=budget_minutes)
    records = run_sweep(sweep, directory, options, show_progress)
    paths = publish(directory)
    comparisons = show_run(sweep, records, paths)
    failed = any(row.record.status not in ("ok", "skipped") for row in comparisons)
    outside = sweep.tolerance_percent is not None and not all(map(within_tolerance, comparisons))
    sys.exit(EXIT_FAILED if failed or outside else 0)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--tolerance", type=click.FloatRange(min=0), help="Percent; a case outside it makes the exit code 1.")
def report(directory: Path, tolerance: float | None) -> None:
    """Write the report of the run in DIRECTORY again: HTML, Markdown, JSON, CSV."""
    from profiler import api
    from profiler.compare import within_tolerance
    from profiler.run.publish import publish

    share = None if tolerance is None else tolerance / 100
    for path in publish(directory, share):
        click.echo(path)
    if share is not None and not all(map(within_tolerance, api.compare(directory, share))):
        sys.exit(EXIT_FAILED)


class Percent(click.ParamType[float]):
    """A share written as a percentage: 2 or 2%."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        """0.02 of `2%`."""
        try:
            return float(str(value).removesuffix("%")) / 100
        except ValueError:
            self.fail(f"{value!r} is not a percentage, such as 2%", param, context)


@cli.command()
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option(
    "--fail-over", type=Percent(), help="Exit code 1 when a peak rose by more than this, or a case failed anew."
)
@json_option
def compare(run_a: Path, run_b: Path, fail_over: float | None, as_json: bool) -> None:
    """Two runs side by side: two cards, two torch versions, two commits. Cases are joined by key.

    A change is that of the allocated peak; --fail-over looks at allocated, reserved and device bytes.
    """
    from dataclasses import asdict

    from profiler import api
    from profiler.show import show_difference

    found = api.compare_runs(run_a, run_b)
    failures = [] if fail_over is None else found.failures(fail_over)
    data = asdict(found) | {"failures": [case.key for case in failures]}
    _answer(data, as_json, lambda _: show_difference(found, failures))
    sys.exit(EXIT_FAILED if failures else 0)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("case", required=False)
@click.option("--again", is_flag=True, help="Make the estimate anew, by the rules as they are now.")
@json_option
def explain(run: Path, case: str | None, again: bool, as_json: bool) -> None:
    """Which bytes of the difference at the peak belong to which op, from the events that the run in folder RUN kept.

    CASE is a key or a part of keys; without it every case gets a line.
    """
    from dataclasses import asdict

    from profiler.run.reasons import reasons
    from profiler.show import show_reasons

    found = reasons(run, case, again=again)
    data = [
        {"key": r.record.key, "explanation": r.explanation and asdict(r.explanation), "missing": r.missing or None}
        for r in found
    ]
    _answer({"cases": data}, as_json, lambda _: show_reasons(found))


@cli.command()
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for accuracy.md, .csv and .json.")
@click.option("--gpu", help="Only cases of this card.")
@click.option("--closed-form", is_flag=True, help="Without cuDNN's plans, shipped or asked: as for a size of your own.")
@click.option(
    "--fail-over", type=click.FloatRange(min=0), help="Percent; a measured or dry case beyond it: exit code 1."
)
@json_option
def accuracy(
    sources: tuple[Path, ...],
    out: Path | None,
    gpu: str | None,
    closed_form: bool,
    fail_over: float | None,
    as_json: bool,
) -> None:
    """How good the estimates are: made anew, against known figures, beside others' formulas.

    SOURCES are run folders, folders of them, or files of published figures. Default: results/reference.
    """
    from profiler import accuracy as judging
    from profiler.estimate.planner import CLOSED_FORM
    from profiler.gpus import find_gpu
    from profiler.run.publish import accuracy_data, publish_accuracy
    from profiler.show import show_accuracy, track

    CLOSED_FORM.set(closed_form)
    cases = judging.collect(sources or [Path("results/reference")], find_gpu(gpu).name if gpu else None)
    frame = judging.to_frame(judging.judge(track(cases, "estimating")))
    about = judging.conditions(frame, " ".join(["latentmeter", *sys.argv[1:]]))
    paths = publish_accuracy(frame, about, out) if out else []
    _answer(accuracy_data(frame, about), as_json, lambda _: show_accuracy(frame, about, paths))
    if fail_over is not None and judging.beyond(frame, fail_over / 100):
        sys.exit(EXIT_FAILED)


@cli.command()
@click.option("--class", "classes", multiple=True, help="This class only; may be given again.")
@click.option("--gpu", default="h200", show_default=True, help="Card to estimate for.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the table as Markdown.")
@json_option
def coverage(classes: tuple[str, ...], gpu: str, out: Path | None, as_json: bool) -> None:
    """Try every autoencoder and denoiser class of the installed diffusers."""
    from dataclasses import asdict

    from profiler.coverage import class_names, cover, summary, to_markdown
    from profiler.show import show_coverage, show_trial

    known = class_names()
    if unknown := set(classes) - known.keys():
        raise UserError(f"diffusers has no autoencoder or denoiser class {', '.join(sorted(unknown))}")
    names = {name: known[name] for name in classes} or known
    trials = []
    for done, found in enumerate(cover(names, gpu=gpu), 1):
        trials += found
        show_trial(done, len(names), found)
    trials.sort(key=lambda trial: (trial.kind, trial.class_name))
    if out is not None:
        out.write_text(to_markdown(trials, gpu))
    data = {"summary": summary(trials), "trials": [asdict(trial) for trial in trials]}
    _answer(data, as_json, lambda _: show_coverage(trials))
    sys.exit(EXIT_FAILED if any(trial.status == "failed" for trial in trials) else 0)


@cli.command()
@click.option("--context", is_flag=True, help="Also measure what CUDA takes outside the allocator, step by step.")
@click.option(
    "--dump-card", type=click.Path(path_type=Path), help="Write this machine's card as a file of configs/gpus."
)
@json_option
def doctor(context: bool, dump_card: Path | None, as_json: bool) -> None:
    """What this machine has, and what would hinder a measurement."""
    from dataclasses import asdict

    from profiler.doctor import context_ladder, examine, write_card
    from profiler.show import show_doctor

    stack, findings, gpus = examine()
    ladder = context_ladder() if context else None
    if dump_card is not None:
        write_card(dump_card, ladder)
    data = {"stack": asdict(stack), "findings": [asdict(f) for f in findings], "gpus": gpus, "context": ladder}
    _answer(data, as_json, lambda _: show_doctor(stack, findings, ladder))


def _answer(data: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    if as_json:
        click.echo(json.dumps(data, indent=2, default=str))
    else:
        show(data)


def main() -> None:
    """Run the command line. The one place where an error becomes a message and an exit code."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        click.echo("interrupted; the same command goes on where this one stood", err=True)
        sys.exit(130)
    except LatentmeterError as error:
        click.echo(f"latentmeter: {error}", err=True)
        sys.exit(EXIT_USER if isinstance(error, UserError) else EXIT_FAILED)
