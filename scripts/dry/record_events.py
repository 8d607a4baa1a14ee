"""Records whole allocation streams of torch's CUDA allocator: run under scripts/dry_cuda (or on a GPU).

    scripts/dry_cuda python scripts/dry/record_events.py results/reference/dry-h200-torch2.13.0/events

One gzipped JSON a workload: the stream of block births (bytes, positive) and deaths (minus the birth's number, from 1) of
loading, inputs and the cold call, and torch's own peaks. The ordinary tests replay each through the allocator's model.
"""

import gzip
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from history import stream_of

from profiler.data.workload import MemoryOptions, Workload
from profiler.machine.probe import probe_stack
from profiler.models.find import find_model
from profiler.stages.stage import Stage

TILED = MemoryOptions(tiling=True)
CASES: list[tuple[str, Any, dict[str, Any]]] = [
    ("sd1.5", "decode", {}),
    ("sdxl", "decode", {"dtype": "fp32"}),
    ("sdxl", "denoise", {}),
    ("flux.1-dev", "decode", {"options": MemoryOptions(channels_last=True)}),
    ("qwen-image", "decode", {"dtype": "fp16"}),
    ("qwen-image", "encode", {"dtype": "fp16"}),
    ("wan2.1-t2v-1.3b", "decode", {"frames": 17, "dtype": "bf16"}),
    ("wan2.1-t2v-1.3b", "decode", {"frames": 5, "height": 320, "width": 320, "options": TILED}),
    ("wan2.1-t2v-1.3b", "denoise", {}),
    ("ltx-video-2b", "decode", {}),
    ("cogvideox-5b", "decode", {"frames": 9}),
    ("hunyuan-video", "decode", {"frames": 17, "height": 256, "width": 256}),
]


def record(workload: Workload) -> dict[str, Any]:
    """Run one cold call under torch's memory history; returns its stream and the counters that torch kept."""
    torch.cuda.memory._record_memory_history(max_entries=5_000_000, context=None)
    stage = Stage(workload, find_model(workload.model))
    device = torch.device("cuda")
    stage.load(device)
    stage.make_inputs(device)
    stage()
    stats = torch.cuda.memory_stats()
    stream = stream_of(torch.cuda.memory._snapshot()["device_traces"][0])
    peaks = {name: stats[f"{name}_bytes.all.peak"] for name in ("allocated", "reserved", "requested")}
    return {"workload": asdict(workload), "peaks": peaks, "stream": stream}


def main() -> None:
    if len(sys.argv) == 3:  # one case, in a process of its own: its allocator must be new
        model, stage, size = CASES[int(sys.argv[2])]
        found = record(find_model(model).workload(stage, **size))
        found["stack"] = asdict(probe_stack("cuda"))
        workload = find_model(model).workload(stage, **size)
        path = Path(sys.argv[1]) / f"{workload.slug}.json.gz"
        with gzip.GzipFile(path, "wb", mtime=0) as stream:
            stream.write(json.dumps(found, separators=(",", ":")).encode())
        print(f"{workload.key}: {len(found['stream'])} events, {found['peaks']}")
        return
    import subprocess

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(len(CASES)):
        subprocess.run([sys.executable, __file__, str(folder), str(number)], check=True)


if __name__ == "__main__":
    main()
