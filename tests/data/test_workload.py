"""Workloads are values: hashable, with a key that means what was asked."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from profiler.data.asked import fields_of, gathered
from profiler.data.units import format_bytes, format_percent
from profiler.data.workload import ATTENTIONS, DTYPES, STAGES, MemoryOptions, Placement, Workload
from profiler.errors import UserError
from profiler.files.load import from_dict, renamed

options = st.builds(
    MemoryOptions,
    tiling=st.just(True),
    tile=st.none() | st.tuples(st.integers(64, 4096), st.integers(64, 4096)),
    tile_stride=st.none() | st.tuples(st.integers(1, 64), st.integers(1, 64)),
    tile_frames=st.none() | st.integers(1, 99),
    slicing=st.booleans(),
    framewise=st.booleans(),
    channels_last=st.booleans(),
    attention=st.none() | st.sampled_from(ATTENTIONS),
)
sizes = st.integers(1, 1 << 9)
workloads = st.builds(
    Workload, model=st.sampled_from(["a", "b/c"]), stage=st.sampled_from(STAGES), frames=sizes, height=sizes, width=sizes,
    batch=sizes, dtype=st.sampled_from(DTYPES), options=options | st.just(MemoryOptions()),
)  # fmt: skip


@given(workloads, workloads)
def test_keys_are_equal_exactly_where_workloads_are(a: Workload, b: Workload) -> None:
    assert (a.key == b.key) == (a == b)
    assert (a == b) <= (hash(a) == hash(b))


@given(workloads)
def test_slugs_are_file_names(workload: Workload) -> None:
    assert "/" not in workload.slug
    assert len(workload.slug.encode()) < 200


def test_a_key_reads_like_the_request() -> None:
    workload = Workload(model="m", stage="decode", frames=81, height=480, width=832, dtype="fp32",
                        options=MemoryOptions(tiling=True, tile=(256, 192), channels_last=True))  # fmt: skip
    assert workload.key == "m/decode/81x480x832/b1/fp32/tiling256x192+channels-last"
    cut = MemoryOptions(tiling=True, tile_stride=(64, 32), tile_frames=16, attention_backend="_native_cudnn")
    assert cut.key == "tiling-stride64x32-frames16+backend-_native_cudnn"


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None])
@pytest.mark.parametrize("name", ["frames", "height", "width", "batch"])
def test_a_size_must_be_a_positive_integer(name: str, value: object) -> None:
    size = {"frames": 1, "height": 8, "width": 8, "batch": 1, name: value}
    with pytest.raises(UserError, match=name):
        Workload(model="m", stage="decode", **size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("stage", "train", "one of encode, decode"), ("dtype", "int4", "one of fp32, fp16, bf16")],
)
def test_names_the_alternatives(field: str, value: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Workload(model="m", frames=1, height=8, width=8, **{"stage": "decode", field: value})  # type: ignore[arg-type]


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(UserError, match="needs tiling"):
        MemoryOptions(tile=(64, 64))
    with pytest.raises(UserError, match="tile"):
        MemoryOptions(tiling=True, tile=(0, 64))
    with pytest.raises(UserError, match="tile_stride: a tile size needs tiling"):
        MemoryOptions(tile_stride=(64, 64))
    with pytest.raises(UserError, match="tile_frames: expected a positive integer, got 0"):
        MemoryOptions(tiling=True, tile_frames=0)
    with pytest.raises(UserError, match="tile_stride: 64x65 leaves gaps between tiles of 64x64"):
        MemoryOptions(tiling=True, tile=(64, 64), tile_stride=(64, 65))
    with pytest.raises(UserError, match="one of flash"):
        MemoryOptions(attention="paged")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (-3 << 30, "-3.000 GiB"),
    ],
)
def test_format_bytes(size: int | None, text: str) -> None:
    assert format_bytes(size) == text


def test_format_percent() -> None:
    assert format_percent(-0.01234) == "-1.23 %"
    assert format_percent(None) == "unknown"


def test_records_of_packages_under_their_old_name_still_open() -> None:
    old = '{"model": "m", "stage": "denoise", "frames": 1, "height": 8, "width": 8, "options": {"attention": "flash-attn"}}'
    read = json.loads(old, object_hook=renamed)  # as the store does
    assert from_dict(Workload, read).options == MemoryOptions(attention_backend="flash")
    with pytest.raises(ValidationError):
        from_dict(Workload, read | {"options": {"attention": "paged"}})


def test_an_option_may_stand_among_the_fields_and_another_name_is_told_what_there_is() -> None:
    tiled = fields_of({"frames": 9, "tiling": True, "tile": (64, 64), "options": MemoryOptions(slicing=True)})
    assert tiled == {"frames": 9, "options": MemoryOptions(tiling=True, tile=(64, 64), slicing=True)}
    assert fields_of({"batch": 2}) == {"batch": 2}
    assert gathered({"stream": True, "tile": None, "placement": Placement("group-leaf"), "steps": 2}) == {
        "placement": Placement(offload="group-leaf", stream=True),
        "steps": 2,
    }
    with pytest.raises(UserError, match=r"placement: goes with a whole generation; profiler\.generate takes one"):
        fields_of({"offload": "model"})
    with pytest.raises(
        UserError,
        match=r"tilling: .* batch, dtype, text_length, options, history, generation, or a memory option: tiling, tile,",
    ):
        fields_of({"tilling": True})
