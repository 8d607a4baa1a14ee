"""Runs the code that `latentmeter fit` gave, under the memory that it was found for: a process of its own, on a GPU or dry.

    scripts/dry_cuda --gpu rtx-4090 python scripts/dry/run_code.py WAY.json

WAY.json has `model`, an id of the catalog, `size`, `code` and `capacity_bytes`. The code runs as it stands, but for the hub:
the catalog's pipeline comes in the place of what would be loaded, with weights that nobody writes to. Its call is made three
times, of as few steps as the estimate traces. One line of JSON: `calls`, the allocated and reserved peaks of each, or the
error that ended them; `retries`, how often segments were given back to go on; `torch`, its version.
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

CALLS, STEPS = 3, 3


def main() -> None:
    """Run, and print."""
    way = json.loads(Path(sys.argv[1]).read_text())
    before, _, _ = way["code"].partition("import torch\n")
    exec(before, {})  # the allocator's settings, before torch is imported

    import diffusers
    import PIL.Image
    import torch

    from profiler.data.workload import Placement
    from profiler.models.pipeline import build_pipeline
    from profiler.models.pipeline_spec import catalog_pipeline
    from profiler.stages.generation import Generation

    spec = catalog_pipeline(way["model"])
    made, cls = build_pipeline(spec), getattr(diffusers, spec.class_name)
    Generation(made, made, {}, Placement()).load(torch.device("cpu"))  # weights that nobody writes to
    calls: list[Any] = []
    usual = cls.__call__

    @functools.wraps(usual)
    def several(self: Any, **given: Any) -> Any:
        given |= {"num_inference_steps": STEPS} if "num_inference_steps" in given else {}
        for _ in range(CALLS):
            torch.cuda.reset_peak_memory_stats()
            result = None
            result = usual(self, **given)
            calls.append([torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()])
        return result

    cls.__call__, cls.from_pretrained = several, classmethod(lambda *_, **__: made)
    for apart in ("ControlNetModel", "MotionAdapter"):  # in a repository of their own
        getattr(diffusers, apart).from_pretrained = classmethod(lambda *_, **__: getattr(made, "controlnet", None))
    size = (way["size"]["width"], way["size"]["height"])
    diffusers.utils.load_image = lambda _: PIL.Image.new("RGB", size)
    torch.cuda.set_per_process_memory_fraction(way["capacity_bytes"] / torch.cuda.get_device_properties(0).total_memory)
    try:
        exec(way["code"], {})
    except torch.OutOfMemoryError as error:
        calls.append(str(error).partition(". ")[0])
    retries = torch.cuda.memory_stats().get("num_alloc_retries", 0)
    print(json.dumps({"calls": calls, "retries": retries, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
