"""What the process did before: later calls, earlier sizes, an emptied cache, weights loaded through one block."""

from pathlib import Path

import pytest

import profiler
from profiler.data.memory import Memory
from profiler.data.records import Estimate
from profiler.data.workload import History, MemoryOptions
from profiler.errors import UserError
from profiler.kernels.cudnn_plans import CLOSED_FORM

IMAGE = str(Path(__file__).parent.parent / "models" / "tiny-image.yaml")
SIZE = {"frames": 1, "height": 512, "width": 512}


def on_h200(dtype: str | None = None, options: MemoryOptions | None = None, **history: object) -> Estimate:
    asked = {"dtype": dtype, "options": options, "history": History(**history)} | SIZE  # type: ignore[arg-type]
    return profiler.estimate(
        "sd1.5", "decode", gpu="h200", torch="2.13.0", **{k: v for k, v in asked.items() if v is not None}
    )  # type: ignore[arg-type]


def reserved(memory: Memory | None) -> int:
    assert memory is not None
    assert memory.reserved_bytes is not None
    return memory.reserved_bytes


def test_a_later_call_takes_what_a_second_trace_of_the_same_size_takes() -> None:
    once, twice = on_h200(), on_h200(sizes=((1, 512, 512),))
    assert once.warm is not None
    assert once.warm.allocated_bytes == twice.peak.allocated_bytes
    assert reserved(once.warm) <= reserved(twice.peak) <= reserved(once.warm) + (20 << 20)  # inputs made anew


def test_a_smaller_size_before_fragments_what_is_reserved() -> None:
    fresh, after = on_h200(), on_h200(sizes=((1, 384, 384),))
    assert reserved(after.baseline) > reserved(fresh.baseline)
    assert after.peak.allocated_bytes == fresh.warm.allocated_bytes  # type: ignore[union-attr]
    assert reserved(after.peak) > reserved(fresh.peak)


def test_an_emptied_cache_forgets_the_earlier_size() -> None:
    kept, emptied = on_h200(sizes=((1, 384, 384),)), on_h200(sizes=((1, 384, 384),), empty_cache=True)
    assert reserved(emptied.baseline) < reserved(kept.baseline)
    assert reserved(emptied.peak) < reserved(kept.peak)


def test_a_device_map_loads_weights_into_one_block() -> None:
    plain, mapped = on_h200(), on_h200(device_map=True)
    assert mapped.baseline.allocated_bytes < plain.baseline.allocated_bytes  # fewer tails that stay unsplit
    assert mapped.terms.inputs == plain.terms.inputs


def test_the_safe_bound_covers_the_histories_that_it_names() -> None:
    found = on_h200()
    assert found.safe_reserved_bytes is not None
    assert found.safe_reserved_bytes >= max(reserved(found.peak), reserved(found.warm))
    assert found.safe_reserved_bytes > reserved(found.peak)  # a picture of half the sizes before leaves pieces


@pytest.mark.parametrize(("height", "known"), [(512, 893_353_198), (1024, 3_113_851_290)])
def test_the_safe_bound_covers_pictures_whose_sides_doubled(height: int, known: int) -> None:
    """SD 1.5 encode as diffusers' hybrid inference page has it (2025-03): after smaller pictures, half a digit 536,871 B."""
    size = {"frames": 1, "height": height, "width": height}
    found = profiler.estimate("sd1.5", "encode", gpu="rtx-4090", torch="2.6.0", dtype="fp16", **size)  # type: ignore[arg-type]
    assert found.safe_reserved_bytes is not None
    assert known - 536_871 <= found.safe_reserved_bytes < 1.05 * known


def test_the_safe_bound_has_room_for_what_cudnn_may_take_beyond_the_closed_form() -> None:
    options = MemoryOptions(channels_last=True)
    planned = on_h200(dtype="fp32", options=options)
    token = CLOSED_FORM.set(True)
    try:
        found = on_h200(dtype="fp32", options=options)
    finally:
        CLOSED_FORM.reset(token)
    assert planned.safe_reserved_bytes is not None
    assert found.safe_reserved_bytes is not None
    assert reserved(planned.peak) < planned.safe_reserved_bytes < found.safe_reserved_bytes


def test_the_cpu_has_no_reserved_memory_to_bound() -> None:
    from profiler.data.stack import Stack

    found = profiler.estimate(IMAGE, "decode", stack=Stack(device="cpu", torch="2.13.0"), **SIZE)
    assert found.safe_reserved_bytes is None
    assert found.warm is not None
    assert found.warm.reserved_bytes is None


def test_the_measurement_runs_the_same_history() -> None:
    record = profiler.measure(IMAGE, "decode", device="cpu", dtype="fp32", warm_calls=0, frames=1, height=64, width=64,
                              history=History(sizes=((1, 32, 32), (1, 64, 64))))  # fmt: skip
    assert record.measurement is not None
    phases = [reading.phase for reading in record.measurement.readings]
    assert phases == ["model", "earlier", "earlier", "inputs", "cold", "attribution"]
    assert record.key.endswith("after-1x32x32+after-1x64x64")


def test_an_earlier_size_that_the_model_does_not_allow_is_refused() -> None:
    with pytest.raises(UserError, match=r"height: 99 is not a multiple"):
        on_h200(sizes=((1, 99, 128),))
    with pytest.raises(UserError, match="frames, height, width"):
        History(sizes=((1, 2),))  # type: ignore[arg-type]
