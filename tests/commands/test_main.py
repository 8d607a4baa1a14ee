"""The command line: what a command costs, answers, and says to a mistake. In this process where that is enough."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import click
import pytest

import profiler
from profiler import __version__
from profiler.commands.generation import told_on_terminal
from profiler.commands.main import NAMES, cli
from profiler.data.memory import TERMS
from profiler.data.records import SCHEMA, Record
from profiler.files.store import RunHeader, RunStore
from profiler.models.catalog import catalog
from profiler.sweeps import run as sweeps
from profiler.sweeps.plan import find_sweep, plan_sweep
from tests.report import records_factory as factory

IMAGE = "tests/models/tiny-image.yaml"
VIDEO = "tests/models/tiny-video.yaml"
LATENT = shlex.split(
    "latent --frames 81 --height 720 --width 1280 --channels 16 --spatial 8 --temporal 4 --dtype bf16 --patch 2"
)
IMPOSSIBLE = {"model": IMAGE, "stages": ["decode"], "height": 33}
HEAVY = {"torch", "diffusers", "pandas", "numpy", "accelerate"}

Command = Callable[..., Any]


def imported_by(*arguments: str) -> set[str]:
    """Top-level modules that the command imports, as Python reports them."""
    command = [sys.executable, "-X", "importtime", "-m", "profiler", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "profiler.commands.main" in names
    return {name.partition(".")[0] for name in names}


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., Path]:
    """A folder that holds a run with these records."""

    def make(*records: Record) -> Path:
        store = RunStore(tmp_path / "finished")
        with store.writing():
            store.begin(
                RunHeader(title="t", sweep={"name": "s"}, command="c", created="now", fingerprint="f", version="0")
            )
            for record in records:
                store.append(record)
        return store.directory

    return make


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], LATENT, ["models"]], ids=" ".join)
def test_what_needs_no_torch_does_not_import_it(arguments: list[str]) -> None:
    assert imported_by(*arguments) & HEAVY == set()


def test_the_help_reads_no_configs() -> None:
    assert not {"pydantic", "yaml"} & imported_by("--help")


def test_a_command_reads_its_own_file_alone() -> None:
    code = (
        "import sys; from profiler.commands.main import cli; cli(sys.argv[1:], standalone_mode=False)\n"
        "print(*[name for name in sys.modules if name.startswith('profiler.commands.')])"
    )
    done = subprocess.run([sys.executable, "-c", code, *LATENT], capture_output=True, text=True, check=True)
    found = {name.rpartition(".")[2] for name in done.stdout.splitlines()[-1].split()}
    assert found == {"main", "options", "verbose", "latent", "tables"}


@pytest.mark.parametrize("name", ["", *NAMES])
def test_every_command_explains_itself(latentmeter: Command, name: str) -> None:
    for flag in ("--help", "-h"):
        answer = latentmeter(*filter(None, [name]), flag)
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.startswith("Usage: ")
    if name:
        assert cli.get_command(click.Context(cli), name).help  # type: ignore[union-attr]


def test_the_commands_are_those_that_are_promised() -> None:
    promised = (
        "accuracy cards compare coverage doctor estimate explain fit hotspots latent measure models recordings report"
    )
    assert sorted(NAMES) == [*promised.split(), "run"]


def test_version(latentmeter: Command) -> None:
    assert latentmeter("--version").out == f"latentmeter, version {__version__}\n"


ESTIMATE = ["estimate", "wan2.1-t2v-1.3b"]
MISTAKES: list[tuple[list[str], list[str]]] = [
    (["estimate", "wan2.1-t2v-1.4b"], ["no model 'wan2.1-t2v-1.4b'", "'wan2.1-t2v-1.3b'", "`latentmeter models`"]),
    (["estimate", "no/such.yaml"], ["no/such.yaml", "No such file"]),
    (["models", "sdxxl"], ["no model 'sdxxl'", "'sdxl'"]),
    ([*ESTIMATE, "--frames", "80"], ["frames: 80 is not of the form 4k+1", "77 or 81"]),
    ([*ESTIMATE, "--height", "481"], ["height: 481 is not a multiple of 8", "480 or 488"]),
    ([*ESTIMATE, "--width", "840", "--stage", "denoise"], ["width: 840 is not a multiple of 16", "832 or 848"]),
    ([*ESTIMATE, "--batch", "0"], ["batch: expected a positive integer, got 0"]),
    ([*ESTIMATE, "--frames", "-3"], ["frames: "]),
    ([*ESTIMATE, "--gpu", "h201"], ["no card 'h201'", "'h200'", "latentmeter cards"]),
    ([*ESTIMATE, "--gpu", "RX 7900 XTX"], ["'RX 7900 XTX' is not covered", "NVIDIA's cards"]),
    ([*ESTIMATE, "--gpu", "rtx-4060-ti"], ["one of rtx-4060-ti-16gb, rtx-4060-ti-8gb"]),
    ([*ESTIMATE, "--vram", "much"], ["'much' is no memory size", "12GiB"]),
    ([*ESTIMATE, "--vram", "1TiB"], ["'1TiB' is no memory size"]),
    ([*ESTIMATE, "--vram", "500GiB"], ["no card has 500.000 GiB: the largest has 180 GiB"]),
    ([*ESTIMATE, "--gpu", "rtx-4090", "--vram", "0.1GiB"], ["CUDA reports none of it"]),
    ([*ESTIMATE, "--torch", "newest"], ["torch: expected a release such as 2.7.1, got 'newest'"]),
    ([*ESTIMATE, "--stage", "decoed"], ["'encode', 'decode', 'roundtrip'"]),
    ([*ESTIMATE, "--dtype", "fp8"], ["'fp32', 'fp16', 'bf16'"]),
    ([*ESTIMATE, "--attention", "best"], ["'flash', 'efficient'"]),
    ([*ESTIMATE, "--tiling", "--tile", "256"], ["'256' is not HEIGHTxWIDTH, such as 256x256"]),
    ([*ESTIMATE, "--tiling", "--tile", "axb"], ["'axb' is not HEIGHTxWIDTH"]),
    ([*ESTIMATE, "--tiling", "--tile", "0x8"], ["tile: expected two positive integers"]),
    ([*ESTIMATE, "--tile", "256x256"], ["tile: a tile size needs tiling switched on"]),
    ([*ESTIMATE, "--tiling", "--tile", "64x64", "--tile-stride", "8x96"], ["tile_stride: 8x96 leaves gaps"]),
    (
        [*ESTIMATE, "--attention-backend", "flex"],
        ["attention_backend: 'flex' is not modelled; one of native, _native_c"],
    ),
    ([*ESTIMATE, "--steps", "2"], ["steps: goes with --stage generate, or with a stage and --offload"]),
    ([*ESTIMATE, "--lora", "16"], ["lora: goes with --stage generate, or with a stage and --offload"]),
    (["estimate", "sd1.5", "--stage", "generate", "--lora", "no"], ["lora: no file or folder 'no'", "a rank, as 16"]),
    (
        ["estimate", "svd-xt", "--stage", "roundtrip", "--offload", "model"],
        ["no stage 'roundtrip' of a generation; one of"],
    ),
    (["estimate", "flux", "--stage", "generate"], ["'flux': no such pipeline: did you mean 'flux.1-dev' or"]),
    (["estimate", "svd-xt", "--stage", "generate", "--stream"], ["stream: none offload uses none"]),
    (
        ["estimate", "svd-xt", "--stage", "generate", "--benchmark"],
        ["benchmark: goes with a single stage; a whole generation takes tiling, tile"],
    ),
    (
        ["estimate", "sdxl", "--stage", "generate", "--decode-chunk", "4"],
        ["StableDiffusionXLPipeline has no decode_chunk_size"],
    ),
    (
        ["estimate", "sdxl", "--stage", "generate", "--framewise"],
        ["AutoencoderKL has no framewise switch", "AutoencoderKL takes tiling and slicing and channels_last"],
    ),
    (["estimate", IMAGE, "--framewise"], ["framewise: cannot be applied: AutoencoderKL has no framewise switch"]),
    (
        ["estimate", IMAGE, "--stage", "patch-embed", "--attention", "math"],
        ["nothing here calls torch's scaled_dot_prod"],
    ),
    (["estimate", IMAGE, "--attention", "flash", "--gpu", "t4"], ["flash takes float16 and", "can: efficient, math"]),
    (
        ["measure", IMAGE, "--framewise", "--device", "cpu"],
        ["framewise: cannot be applied: AutoencoderKL has no frame"],
    ),
    (["measure", IMAGE, "--benchmark", "--device", "cpu"], ["benchmark: cuDNN runs on CUDA alone"]),
    (["measure", IMAGE, "--frames", "2"], ["frames: this is an image model"]),
    (["measure", IMAGE, "--warm-calls", "-1"], ["-1 is not in the range x>=0"]),
    (["run", "quickstart", "--budget-minutes", "-1"], ["'--budget-minutes': -1.0 is not in the range x>=0"]),
    (["run", "quikstart"], ["no sweep 'quikstart'", "gpu-validation, quickstart, quickstart-cuda"]),
    (["run", "no/such.yaml"], ["no/such.yaml: No such file"]),
    (["report", "no/such/folder"], ["no/such/folder: no run here", "`latentmeter run CONFIG --out`"]),
    (["report", "tests"], ["tests: no run here"]),
    (["report", "tests", "--tolerance", "-1"], ["'-1' is not a percentage"]),
    (["report", "tests", "--tolerance", "inf"], ["'inf' is not a percentage"]),
    (["accuracy", "--fail-over", "nan%"], ["'nan%' is not a percentage"]),
    (["latent", "--frames", "81"], ["Missing option '--height'"]),
    ([*LATENT, "--frames", "0"], ["num_frames"]),
    (["estimat"], ["No such command 'estimat'"]),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_a_mistake_is_told_with_the_way_out(latentmeter: Command, arguments: list[str], says: list[str]) -> None:
    answer = latentmeter(*arguments)
    assert answer.code == 2
    assert not answer.out or answer.out.startswith("measure ")  # what begins, said before its process refuses
    assert "Traceback" not in answer.err
    for text in says:
        assert text in answer.err


def test_cuda_where_there_is_none_is_refused_with_the_reason(latentmeter: Command) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    answer = latentmeter("measure", IMAGE, "--device", "cuda", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert f"latentmeter: device cuda: torch {torch.__version__} is " in answer.err
    assert "--device cpu measures on the CPU" in answer.err


def test_a_card_that_is_not_here_is_written_on_the_machine_that_has_it(latentmeter: Command, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    answer = latentmeter("doctor", "--dump-card", str(tmp_path / "card.yaml"))
    assert answer.code == 2 and answer.err.strip().endswith("; run it on the machine that has the card")


def test_an_error_that_is_not_the_users_ends_with_1(latentmeter: Command, tmp_path: Path) -> None:
    model = tmp_path / "rejected.yaml"
    model.write_text(Path(IMAGE).read_text().replace("norm_num_groups: 4", "norm_num_groups: 5"))
    answer = latentmeter("estimate", model)
    assert answer.code == 1
    assert answer.err.startswith("latentmeter: AutoencoderKL rejects its config: ")


def test_an_interrupt_of_measure_does_not_promise_to_go_on(
    latentmeter: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(profiler, "measure", interrupt)
    answer = latentmeter("measure", IMAGE)
    assert answer.code == 130
    assert answer.err.strip() == "latentmeter: interrupted"


def test_latent_as_json_and_as_text(latentmeter: Command) -> None:
    found = json.loads(latentmeter(*LATENT, "--json").out)
    assert found == {
        "latent_shape": [1, 16, 21, 90, 160],
        "num_elements": 4838400,
        "memory_bytes": 9676800,
        "memory_mb": 9.2285,
        "tokens_per_video": 75600,
        "rounded_up": [],
    }
    text = latentmeter(*LATENT).out
    assert "1 x 16 x 21 x 90 x 160" in text
    assert "9,676,800 B = 9.2285 MiB" in text
    assert "75,600" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("--patch", 7),
            ["90 latents in height: no multiple of patch 7", "160 latents in width: no multiple of patch 7"],
        ),
        (("--frames", 82), ["82 frames: not 4k or 4k + 1"]),
        (("--width", 1281), ["width 1281: no multiple of 8", "161 latents in width: no multiple of patch 2"]),
    ],
)
def test_latent_says_what_it_rounded_up(latentmeter: Command, change: tuple[str | int, ...], said: list[str]) -> None:
    assert json.loads(latentmeter(*LATENT, *change, "--json").out)["rounded_up"] == said
    assert all(f"rounded up        {reason}" in latentmeter(*LATENT, *change).out for reason in said)


def test_models_as_json_and_as_text(latentmeter: Command) -> None:
    assert list(json.loads(latentmeter("models", "--json").out)) == list(catalog())
    found = json.loads(latentmeter("models", "sdxl", "--json").out)
    assert found["vae"]["class"] == "AutoencoderKL"
    assert found["sources"]
    text = latentmeter("models").out
    assert all(name in text for name in catalog())
    assert "sources:" in latentmeter("models", "sdxl").out


def test_estimate_as_json_has_what_is_promised(latentmeter: Command) -> None:
    answer = latentmeter("estimate", VIDEO, "--stage", "decode", "--gpu", "h200", "--json")
    assert (answer.code, answer.err) == (0, "")
    found = json.loads(answer.out)
    promised = {"workload", "stack", "baseline", "peak", "terms", "peak_at", "largest", "seconds", "notes"}
    assert promised <= set(found)
    for moment in ("baseline", "peak"):
        assert set(found[moment]) == {"allocated_bytes", "reserved_bytes", "device_bytes"}
    assert set(found["peak_at"]) == {"module", "op"}
    assert set(found["terms"]) == set(TERMS)
    assert isinstance(found["largest"], list)
    assert (
        0 < found["baseline"]["allocated_bytes"] < found["peak"]["allocated_bytes"] <= found["peak"]["reserved_bytes"]
    )
    assert found["workload"]["frames"] == 5
    assert found["stack"]["gpu"] == "NVIDIA H200"
    unknown = {
        f"{part}.{name}"
        for part in ("baseline", "peak", "terms")
        for name, value in found[part].items()
        if value is None
    }
    assert unknown <= set(found["notes"]), "what is null has its reason"


def test_estimate_takes_its_size_options_and_stack_from_the_command(latentmeter: Command) -> None:
    size = "--frames 9 --height 64 --width 48 --batch 2 --dtype fp16 --tiling --tile 32x48 --tile-stride 16x24"
    stack = "--slicing --channels-last --attention math --benchmark --gpu rtx-4090 --torch 2.7.1 --cudnn 90701"
    found = json.loads(latentmeter("estimate", VIDEO, *size.split(), *stack.split(), "--json").out)
    work, on = found["workload"], found["stack"]
    assert [work[name] for name in ("frames", "height", "width", "batch", "dtype")] == [9, 64, 48, 2, "fp16"]
    assert work["options"] == {
        "tiling": True,
        "tile": [32, 48],
        "tile_stride": [16, 24],
        "tile_frames": None,
        "slicing": True,
        "framewise": False,
        "channels_last": True,
        "attention": "math",
        "attention_backend": None,
        "autocast": None,
        "benchmark": True,
    }
    assert (on["torch"], on["cudnn"], on["capability"]) == ("2.7.1", 90701, [8, 9])


def test_estimate_for_a_reader(latentmeter: Command) -> None:
    answer = latentmeter("estimate", IMAGE, "--gpu", "h200")
    assert (answer.code, answer.err) == (0, "")
    for text in ("estimated for NVIDIA H200", "terms at the peak: weights", "nothing was measured", "MiB"):
        assert text in answer.out
    assert "\x1b" not in answer.out


def test_a_generation_is_told_in_one_line_and_then_by_phases_and_kept(
    latentmeter: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("LATENTMETER_CACHE", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    size = ["--height", "64", "--width", "64", "--frames", "9", "--steps", "2"]
    arguments = ["wan2.1-t2v-1.3b", "--offload", "model", "--gpu", "rtx-4090", *size]
    answer = latentmeter("estimate", *arguments, "--stage", "generate")
    assert answer.err == "", "what libraries remark, and progress where there is no terminal"
    lines = answer.out.splitlines()
    assert lines[0].startswith("wan2.1-t2v-1.3b, whole generation, offload-model: peak 10.7")
    assert "allocated in text encode" in lines[0]
    assert lines[0].endswith("fits on NVIDIA GeForce RTX 4090 (23.516 GiB, 22.967 GiB of it for torch)")
    phases = ("text encode", "first step", "later steps", "decode", "post-process")
    rows = [line for line in lines if line.startswith(phases)]
    assert [row.split("  ")[0] for row in rows[:6]] == [*phases, "text encode, again"]
    assert max(map(len, rows)) <= 100
    assert "transformer 2.6" in rows[1]
    assert "vae" in rows[3]
    assert any(line.startswith("host: pinned 1 B, pageable 13.7") for line in lines)
    assert any(line.split()[2:] == ["all", "-", "weights", "text_encoder"] for line in lines)

    code = f"import sys; sys.argv = {['latentmeter', 'estimate', *arguments, '--stage', 'sample']}\n" + (
        "from profiler.commands.main import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    )
    kept = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert kept[0].startswith("wan2.1-t2v-1.3b, sample in a generation, offload-model: peak 2.6")
    assert kept[0].endswith(
        "; the whole generation fits on NVIDIA GeForce RTX 4090 (23.516 GiB, 22.967 GiB of it for torch)"
    )
    assert [line.split() for line in kept if line.startswith(phases)] == [row.split() for row in rows if "step" in row]
    assert any("kept from the same estimate of" in line for line in kept)
    assert not any(line.startswith("peak of the first call") for line in kept), "it stands in another phase"
    other = latentmeter("estimate", *arguments, "--stage", "encode")
    assert (other.code, "it has text encode, first step, later steps" in other.err) == (2, True)


def test_what_runs_is_shown_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for is_terminal in (True, False):
        screen = StringIO()
        monkeypatch.setattr(screen, "isatty", lambda answer=is_terminal: answer)
        monkeypatch.setattr(sys, "stderr", screen)
        with told_on_terminal() as tell:
            tell("first call: [vae]")
            time.sleep(0.2)
        assert ("first call: [vae]" in screen.getvalue()) == is_terminal


def test_an_estimate_says_first_whether_it_fits_then_the_numbers_the_place_and_the_notes(latentmeter: Command) -> None:
    lines = latentmeter("estimate", IMAGE, "--gpu", "h200").out.splitlines()
    # What was not planned by cuDNN stands above the verdict: no size of this model is shipped.
    beginnings = [
        "tests/models",
        "estimated for",
        "note: workspace of",
        "fits on NVIDIA H200 (139.813 GiB, ",
        "",
        "peak  ",
    ]
    for line, beginning in zip(
        lines, [*beginnings, "later calls, peak", "before the call", "peak at ", "note: "], strict=False
    ):
        assert line.startswith(beginning)


def test_measure_as_json(latentmeter: Command) -> None:
    command = ("measure", IMAGE, "--stage", "patch-embed", "--device", "cpu", "--warm-calls", 1, "--json")
    answer = latentmeter(*command)
    assert (answer.code, answer.err) == (0, "")
    found = json.loads(answer.out)
    assert (found["status"], found["measurement"]["device_kind"], found["schema"]) == ("ok", "cpu", SCHEMA)
    assert len(found["measurement"]["warm"]) == 1
    assert found["measurement"]["peak"]["allocated_bytes"] > 0


def test_a_measurement_that_fails_is_answered_and_ends_with_1(latentmeter: Command) -> None:
    answer = latentmeter("measure", IMAGE, "--device", "cpu", "--timeout", 0.05, "--json")
    assert (answer.code, answer.err) == (1, "")
    found = json.loads(answer.out)
    assert (found["status"], found["failure"]["phase"], found["measurement"]) == ("timeout", "start", None)


@pytest.mark.parametrize(
    ("record", "code", "says"),
    [
        (factory.exact(), 0, ["ok in 38.2 s", "measured on NVIDIA H200", "cold call, peak", "warm call 3, peak"]),
        (factory.on_cpu(), 0, ["(CPU numbers, no GPU)", "most borrowed while an op ran: 92.1 MiB in decoder.up"]),
        (factory.oom(), 1, ["oom in phase 'cold': CUDA out of memory", "the allocation that failed: 30.384 GiB"]),
        (factory.crash(), 1, ["crash in phase 'warm': the worker ended by a signal"]),
    ],
    ids=["gpu", "cpu", "oom", "crash"],
)
def test_measure_for_a_reader(
    latentmeter: Command, monkeypatch: pytest.MonkeyPatch, record: Record, code: int, says: list[str]
) -> None:
    monkeypatch.setattr(profiler, "measure", lambda *_, **__: record)
    answer = latentmeter("measure", IMAGE)
    assert (answer.code, answer.err) == (code, "")
    for text in says:
        assert text in answer.out


def test_doctor_as_json(latentmeter: Command) -> None:
    answer = latentmeter("doctor", "--json")
    assert (answer.code, answer.err) == (0, "")
    found = json.loads(answer.out)
    assert set(found) == {"stack", "findings", "gpus", "context", "planner"}
    assert (found["planner"]["bytes"] is None) is bool(found["planner"]["reason"])
    assert {"torch", "diffusers", "CUDA", "planner"} <= {finding["subject"] for finding in found["findings"]}
    assert all(finding["text"] for finding in found["findings"])


def test_explain_names_the_cases_that_kept_no_events(latentmeter: Command, finished: Callable[..., Path]) -> None:
    folder = finished(factory.explained(), factory.exact(), factory.oom())
    answer = latentmeter("explain", folder)
    assert (answer.code, answer.err) == (0, "")
    assert "measured 6.7 MiB more: +5.7 MiB of workspace only measured in encoder.conv_in" in answer.out
    assert "1 of 3 cases have events; 1,000,000 B of their differences unexplained" in answer.out
    assert "not explained: the run kept no events" in answer.out
    one = json.loads(latentmeter("explain", folder, "cogvideox", "--json").out)
    assert one["cases"][0]["explanation"]["unexplained"] == 1_000_000
    assert latentmeter("explain", folder, "no such case").code == 2


def test_report_writes_the_report_again(latentmeter: Command, finished: Callable[..., Path]) -> None:
    folder = finished(*factory.sample())
    answer = latentmeter("report", folder)
    assert (answer.code, answer.err) == (0, "")
    written = [Path(line) for line in answer.out.split()]
    assert written == [folder / name for name in ("report.html", "report.md", "report.json", "records.csv")]
    assert all(path.stat().st_size for path in written)


@pytest.mark.parametrize(
    ("records", "percent", "code"),
    [
        ([factory.exact(), factory.over()], None, 0),
        ([factory.exact(), factory.over()], 1, 1),
        ([factory.exact(), factory.over()], 5, 0),
        ([factory.exact()], 0, 0),
        ([factory.within()], 0, 1),
        ([factory.estimate_only(), factory.skipped()], 1, 0),
        ([factory.exact(), factory.oom()], 100, 1),
    ],
)
def test_the_exit_code_of_report_is_about_the_tolerance(
    latentmeter: Command, finished: Callable[..., Path], records: list[Record], percent: float | None, code: int
) -> None:
    flags = [] if percent is None else ["--tolerance", percent]
    assert latentmeter("report", finished(*records), *flags).code == code


@pytest.mark.parametrize(
    ("off", "tolerance", "code"), [(0, 1, 0), (400_000_000, 1, 1), (400_000_000, None, 1), (400_000_000, 90, 0)]
)
def test_the_exit_code_of_run_is_about_the_tolerance_of_its_sweep(
    latentmeter: Command,
    sweep_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    off: int,
    tolerance: float | None,
    code: int,
) -> None:
    monkeypatch.setattr(sweeps, "probe_stack", lambda device: factory.CPU)
    path = sweep_file({"model": IMAGE, "stages": ["decode"]}, tolerance_percent=tolerance)
    (case,) = plan_sweep(find_sweep(str(path))).cases
    command = ("run", path, "--out", tmp_path / "run")
    assert latentmeter(*command, "--budget-minutes", 0.001).code == 0
    share = tolerance and tolerance / 100
    RunStore(tmp_path / "run").append(factory.record(case.workload, factory.CPU, off, tolerance=share))
    answer = latentmeter(*command)
    assert answer.code == code
    assert ("over" in answer.out) == (off > 0 and tolerance != 90)


def test_run_names_its_report_and_what_was_skipped(
    latentmeter: Command, sweep_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "probe_stack", lambda device: replace(factory.CPU, torch="2.13.0"))
    out = tmp_path / "run"
    answer = latentmeter("run", sweep_file(IMPOSSIBLE), "--out", out)
    assert (answer.code, answer.err) == (0, "")
    assert "[1/1] measure tests/models/tiny-image.yaml/decode/1x33x32/b1/fp32" in answer.out
    assert "skipped, 0.0 s: height: 33 is not a multiple of 2" in answer.out
    assert "Skipped, neither measured nor estimated: 1 of 1 cases:\n  height: 33 is not" in answer.out
    assert f"Read {out / 'report.html'}; `latentmeter report {out}` writes it again." in answer.out


def test_run_without_out_writes_below_results(
    latentmeter: Command, sweep_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "probe_stack", lambda device: factory.CPU)
    model = tmp_path / "model.yaml"
    model.write_text(Path(IMAGE).read_text())
    path = sweep_file(IMPOSSIBLE | {"model": str(model)})
    monkeypatch.chdir(tmp_path)
    assert latentmeter("run", path).code == 0
    assert (tmp_path / "results" / "tiny" / "report.html").exists()
