"""Files that a person wrote, changed at random: whoever reads one gives what it says, or an error that is a message.

A file is a good one with a few values replaced by others, some of which only YAML can write, or with bytes changed.
"""

import gzip
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import huggingface_hub.constants
import yaml
from hypothesis import strategies as st

from profiler.data.workload import STAGES
from profiler.errors import LatentmeterError
from profiler.evidence.published import read_published
from profiler.files.load import read_as
from profiler.files.paths import CONFIGS
from profiler.files.streams import read_stream
from profiler.machine.cards import Gpu
from profiler.models.catalog import read_spec
from profiler.models.find import find_model
from profiler.sweeps.plan import find_sweep, plan_sweep

NAME = "loaders"
ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "models" / "tiny-image.yaml").read_text(encoding="utf-8"))
VAE = {"_class_name": "AutoencoderKL", **TINY["vae"]["config"]}
SIZE = {"frames": 1, "height": 32, "width": 32}
# A good file of each kind, as data.
GOOD: dict[str, Any] = {
    "model.yaml": TINY,
    "sweep.yaml": {
        "name": "s", "title": "t", "device": "cpu", "timeout_seconds": 60.0, "tolerance_percent": 2.0, "cases": [
            {"model": "sd1.5", "stages": ["decode", "denoise"], "height": [64, 96], "width": 64, "dtype": "fp16",
             "options": [{"tiling": True, "tile": [64, 64]}, {}], "history": {"sizes": [[1, 64, 64]]}, "gpu": "t4"},
        ],
    },
    "config.json": VAE,
    "model_index.json": {"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"]},
    "published.yaml": {"figures": [{
        "id": "x", "model": "sd1.5", "stage": "decode", "size": SIZE, "dtype": "fp16", "gpu": "t4", "torch": "2.7.1",
        "cudnn": 90501, "quantity": "allocated", "printed": "1 GB", "bytes": 1000, "half_digit": 1, "source": "here",
    }]},
    "card.yaml": yaml.safe_load((CONFIGS / "gpus" / "t4.yaml").read_text(encoding="utf-8")),
    "events.json.gz": {
        "schema": 1, "bytes": [512, 64], "op": [-1, 0], "term": ["weights", "workspace"], "phase": ["model", "cold"],
        "shape": [[16, 8], []], "dtype": ["fp32", "bf16"], "events": [0, 1, -2], "ops": [["a", "aten.add"]],
        "cache_emptied_at": [1],
    },
}  # fmt: skip
KINDS = tuple(GOOD)
# Small enough that a class can be built with any of them.
PLAIN: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 64, 0.5, -1.5, 1e308, "", "x", "B", "../x", "a/b", "no/such.yaml", "\x1b[31m", "k",
    "4k+1", "H * W", "H // 0", "(", "fp32", "AutoencoderKL", "UNet2DConditionModel", "os.system", [], [None], [[]], {},
    {"x": 1}, [1, 2, 3],
]  # fmt: skip
# What JSON has no word for, or no file should hold; they stand in a text in the place of one that marks them.
RAW = (
    "2026-02-30", "!!timestamp 2026-02-30", "!!bool maybe", "!!int ''", "!!float x", "!!set {a}", "!!binary aGk=",
    "!!null 3", "!x 1",
    "&a [*a]", "&b {b: *b}", "*c", "{<<: {x: 1}}", "? [a]", "[", "{", "'", "9" * 5000, "9" * 400, "-" + "9" * 30, "1e400",
    ".nan", "NaN", "Infinity", '"\\ud800"', '"\\u0000"', "[" * 200 + "]" * 200, "[" * 100_000, "\x00", "\x85", "\ufeff", "=",
)  # fmt: skip
MARK = re.compile(r'"@(\d+)@"')


def a_file(random: Random) -> tuple[str, bytes]:
    """A kind of file, and what one of that kind holds."""
    kind = random.choice(KINDS)
    data = deepcopy(GOOD[kind])
    for _ in range(random.randint(1, 3)):
        data = _changed(random, data)
    text = MARK.sub(lambda mark: RAW[int(mark[1])], json.dumps(data))
    found = text.encode("utf-8", "surrogatepass")
    if random.random() < 0.3:
        found = _damaged(random, found)
    if kind.endswith(".gz") and random.random() < 0.8:
        found = gzip.compress(found, mtime=0)
        return kind, _damaged(random, found) if random.random() < 0.2 else found
    return kind, found


def _changed(random: Random, data: Any) -> Any:
    """`data` with one value, somewhere in it, replaced, taken away or doubled, or one name changed."""
    if not data or not isinstance(data, (dict, list)) or random.random() < 0.1:
        return f"@{random.randrange(len(RAW))}@" if random.random() < 0.4 else deepcopy(random.choice(PLAIN))
    keys: list[Any] = list(data) if isinstance(data, dict) else list(range(len(data)))
    key, what = random.choice(keys), random.random()
    if what < 0.1:
        del data[key]
    elif what < 0.15 and isinstance(data, dict):
        data[random.choice(["", "x", "name", "config"])] = data.pop(key)
    elif what < 0.2 and isinstance(data, list):
        data.append(deepcopy(data[key]))
    else:
        data[key] = _changed(random, data[key])
    return data


def _damaged(random: Random, data: bytes) -> bytes:
    """`data` cut off, or with a byte changed, or with bytes in between."""
    at = random.randrange(len(data) + 1)
    return data[:at] + random.choice([b"", data[at + 1 :], random.randbytes(3) + data[at:], b"\xff" + data[at + 1 :]])


def inputs(random: Random) -> Iterator[tuple[str, bytes]]:
    """Files without an end."""
    while True:
        yield a_file(random)


files = st.builds(a_file, st.randoms(use_true_random=False))


def check_loader(kind: str, data: bytes) -> None:
    """`check` in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        check((kind, data), Path(folder))


def check(value: tuple[str, bytes], folder: Path) -> None:
    """Read the file as its commands do. Raises what is not meant for a user, and where a message has no words."""
    kind, data = value
    (folder / kind).write_bytes(data)
    if kind == "model_index.json":
        (folder / "vae").mkdir()
        (folder / "vae" / "config.json").write_text(json.dumps(VAE), encoding="utf-8")
    try:
        with mock.patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True):
            READERS[kind](folder / kind)
    except LatentmeterError as error:
        assert str(error).strip(), type(error)
        str(error).encode()


def _model(path: Path) -> None:
    spec = read_spec(path)
    for stage in STAGES:
        with suppress(LatentmeterError):
            spec.workload(stage)
    assert spec.digest


def _published(path: Path) -> None:
    for figure in read_published(path):
        assert figure.workload.key
        assert figure.stack.title


READERS: dict[str, Callable[[Path], object]] = {
    "model.yaml": _model,
    "sweep.yaml": lambda path: plan_sweep(find_sweep(str(path))).identity,
    "config.json": lambda path: find_model(str(path)).digest,
    "model_index.json": lambda path: find_model(str(path.parent)).digest,
    "published.yaml": _published,
    "card.yaml": lambda path: read_as(Gpu, path, "a card file"),
    "events.json.gz": read_stream,
}
