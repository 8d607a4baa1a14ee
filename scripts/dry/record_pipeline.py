"""Records a whole pipeline of diffusers, placed as its users place it: run under scripts/dry_cuda (or on a GPU).

    scripts/dry_cuda --gpu rtx-4090 python scripts/dry/record_pipeline.py FILE.py:FACTORY --offload model --out OUT.json.gz

FACTORY is a function of FILE.py without arguments. It returns a pipeline and the keywords of its call; an id of the catalog
in its place is that pipeline at its published size, with as few steps as the estimate traces. Weights on `meta` get memory
of the host here that nobody writes to, so a model larger than this machine's RAM can be placed.

What is written, as one gzipped JSON:
- `phases`: in order of time, `load` (the placement itself), then for each call the component that runs (`transformer`,
  `vae.decode`, `video_processor`) or `pipeline` between two. Each has the peaks of the card's allocated and reserved bytes,
  what is left at its end, the pinned bytes of the host (torch's own counters, None before there are any), this process's
  resident bytes, and `events`, the length of the stream at its end;
- `stream`: births of blocks (bytes, positive) and deaths (minus the birth's number, from 1) as in record_events.py. A block
  that waits for another stream (`record_stream`) dies when the allocator has it back;
- `pools`: the births outside the default stream, by number: 1 for the first such stream;
- `segments`: [events before, bytes, address] of each segment taken (positive) and given back (negative).
"""

import argparse
import gzip
import json
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from profiler.data.workload import OFFLOADS, Placement
from profiler.stages.generation import Generation, components


def catalog_call(name: str, steps: int | None = None, lora: int | None = None) -> tuple[Any, dict[str, Any]]:
    """The pipeline `name` of the catalog, with a LoRA of a rank, and the keywords of its call, as estimated."""
    from profiler.models.lora import load_lora
    from profiler.models.pipeline import build_pipeline, call_arguments
    from profiler.models.pipeline_spec import catalog_pipeline
    from profiler.stages.generation_ready import few_steps

    spec = catalog_pipeline(name)
    pipe = build_pipeline(spec)
    if lora:
        load_lora(pipe, lora)
    return pipe, call_arguments(spec, steps=steps or few_steps(spec))


class Recorder:
    """Reads the allocator's counters where one phase ends and the next begins."""

    def __init__(self) -> None:
        torch.cuda.memory._record_memory_history(max_entries=20_000_000, context=None)
        self.phases: list[dict[str, Any]] = []
        self._open = ["load"]

    def end_phase(self) -> None:
        """Note the phase that is open, if anything was allocated or freed in it."""
        stats = torch.cuda.memory_stats()
        count = stats.get("allocation.all.allocated", 0) + stats.get("allocation.all.freed", 0)
        if count != (self.phases[-1]["events"] if self.phases else 0):
            names = {"allocated": "allocated_bytes.all", "reserved": "reserved_bytes.all"}
            card = {f"{name}_{at}": stats[f"{key}.{at}"] for name, key in names.items() for at in ("peak", "current")}
            pinned = torch.cuda.host_memory_stats().get("allocated_bytes.current")
            host = {"pinned": pinned, "resident": psutil.Process().memory_info().rss}
            self.phases.append({"name": self._open[-1], **card, **host, "events": count})
        torch.cuda.reset_peak_memory_stats()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Whatever runs inside belongs to `name`, but for phases within it."""
        self.end_phase()
        self._open.append(name)
        try:
            yield
        finally:
            self.end_phase()
            self._open.pop()

    def during(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, run as a phase."""

        def run(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return function(*args, **kwargs)

        return run

    def watch(self, pipe: Any) -> None:
        """Calls of components, of a VAE's two halves and of post-processing are phases."""
        usual = nn.Module.__call__
        names = {id(module): name for name, module in components(pipe).items()}

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            name = names.get(id(module))
            return usual(module, *args, **kwargs) if name is None else self.during(name, usual)(module, *args, **kwargs)

        nn.Module.__call__ = call  # type: ignore[method-assign]
        for name, module in components(pipe).items():
            for half in ("encode", "decode"):
                if "vae" in name and hasattr(module, half):
                    setattr(module, half, self.during(f"{name}.{half}", getattr(module, half)))
        for name, value in list(vars(pipe).items()):
            for method in ("postprocess", "postprocess_video"):
                if name.endswith("processor") and hasattr(value, method):
                    setattr(value, method, self.during(name, getattr(value, method)))

    def stream(self) -> dict[str, Any]:
        """The allocator's history."""
        numbers: dict[int, int] = {}
        stream: list[int] = []
        pools: dict[int, int] = {}
        segments: list[tuple[int, int, int]] = []
        births, streams = 0, {0: 0}
        for event in torch.cuda.memory._snapshot()["device_traces"][0]:
            if event["action"] == "alloc":
                births += 1
                numbers[event["addr"]] = births
                stream.append(event["size"])
                if pool := streams.setdefault(event["stream"], len(streams)):
                    pools[births] = pool
            elif event["action"] == "free_completed":
                stream.append(-numbers.pop(event["addr"]))
            elif event["action"] in ("segment_alloc", "segment_map"):
                segments.append((len(stream), event["size"], event["addr"]))
            elif event["action"] in ("segment_free", "segment_unmap"):
                segments.append((len(stream), -event["size"], event["addr"]))
        return {"stream": stream, "pools": pools, "segments": segments}


def record(factory: Callable[[], tuple[Any, dict[str, Any]]], placement: Placement, calls: int) -> dict[str, Any]:
    """Place the factory's pipeline and call it `calls` times; returns what the module's docstring says."""
    pipe, call = factory()
    run, device = Generation(pipe, pipe, call, placement), torch.device("cuda")
    recorder = Recorder()
    run.load(device)
    recorder.end_phase()
    recorder.watch(pipe)
    run.make_inputs(device)
    for number in range(1, calls + 1):
        with recorder.phase("pipeline"):
            run()
        for phase in recorder.phases:
            phase.setdefault("call", 0 if phase["name"] == "load" else number)
    return {**asdict(placement), "phases": recorder.phases, **recorder.stream()}


def main() -> None:
    """Parse, record, print a line a phase, write."""
    parser = argparse.ArgumentParser(description="Record a placed pipeline; see the file's own text.")
    parser.add_argument("factory", metavar="FILE.py:FACTORY", help="or an id of the catalog of pipelines")
    parser.add_argument("--steps", type=int, help="denoising steps of a pipeline of the catalog")
    parser.add_argument("--lora", type=int, metavar="RANK", help="a LoRA for a pipeline of the catalog; needs peft")
    parser.add_argument("--offload", choices=OFFLOADS, default="none")
    parser.add_argument("--calls", type=int, default=2)
    for flag in ("--stream", "--record-stream", "--low-cpu-mem"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--out", type=Path)
    asked = vars(parser.parse_args())
    file, _, name = asked.pop("factory").rpartition(":")
    out, steps, lora, calls = (asked.pop(word) for word in ("out", "steps", "lora", "calls"))
    if file and (steps or lora):
        parser.error("--steps and --lora go with a pipeline of the catalog: a FACTORY makes its own")
    factory = runpy.run_path(file)[name] if file else partial(catalog_call, name, steps, lora)
    found = record(factory, Placement(**asked), calls)
    for phase in found["phases"]:
        sizes = " ".join(f"{key} {value}" for key, value in phase.items() if key not in ("call", "name"))
        print(f"{phase['call']} {phase['name']}: {sizes}")
    if out is not None:
        with gzip.GzipFile(out, "wb", mtime=0) as file:
            file.write(json.dumps(found, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
