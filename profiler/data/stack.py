"""The stack: everything besides the workload that decides which kernels run and what they borrow."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Literal

from profiler.data.alloc_conf import OTHER_SINCE, OTHER_VARIABLE, VARIABLE
from profiler.errors import UserError, check_kind

DeviceName = Literal["cuda", "cpu"]
DRY = "LATENTMETER_DRY"  # set by scripts/dry_cuda: the libraries below torch are stubs, and no kernel runs
RESERVE = "reserve"  # the setting that holds what `--reserve` keeps free on the card, in bytes


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Hardware, versions and settings of one run, measured or assumed. Unknown is None.

    `capability` is (major, minor) of the CUDA architecture; `cudnn` the integer version as torch reports it (92000 for
    9.20.0); `settings` the allocator and backend switches that change memory, as text.
    """

    device: DeviceName
    gpu: str | None = None
    capability: tuple[int, int] | None = None
    multiprocessors: int | None = None
    device_total_bytes: int | None = None
    driver: str | None = None
    cuda: str | None = None
    cudnn: int | None = None
    torch: str
    diffusers: str | None = None
    python: str | None = None
    settings: dict[str, str] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits over every field: numbers of two fingerprints are never compared silently."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def dry(self) -> bool:
        """Whether what ran on it was a dry run: no kernel ran, and no card was there."""
        return DRY in self.settings

    @property
    def torch_release(self) -> tuple[int, int, int]:
        """The numbers of the torch version, without its build suffix."""
        parts = self.torch.split("+")[0].split(".")[:3]
        numbers = [int(part) for part in parts if re.fullmatch("[0-9]{1,9}", part)]
        major, minor, patch = (*numbers, 0, 0, 0)[:3]
        return major, minor, patch

    @property
    def alloc_conf(self) -> str:
        """The text by which its torch sets up its allocator. Raises UserError where two variables disagree."""
        mine, other = self.settings.get(VARIABLE), self.settings.get(OTHER_VARIABLE)
        if mine is not None and other not in (None, mine):
            raise UserError(f"{VARIABLE}={mine} and {OTHER_VARIABLE}={other} disagree: set one of them")
        if mine is None and self.torch_release >= OTHER_SINCE:
            mine = other
        return mine or ""

    def with_alloc_conf(self, text: str) -> "Stack":
        """The same with `text` in the place of what the allocator's variables say. Raises UserError where it is no text."""
        check_kind("alloc_conf", text, str, "'expandable_segments:True'")
        others = {name: value for name, value in self.settings.items() if name != OTHER_VARIABLE}
        return replace(self, settings=others | {VARIABLE: text})

    @property
    def of_any_segments(self) -> "Stack":
        """The same whether segments expand or not, and however much is kept free: a trace depends on neither."""
        rest = [part for part in self.alloc_conf.split(",") if part and not part.startswith("expandable_segments")]
        settings = self.with_alloc_conf(",".join(rest)).settings
        return replace(self, settings={name: value for name, value in settings.items() if name != RESERVE})

    @property
    def reserve_bytes(self) -> int:
        """What is kept free for others on the card: a desktop, another process."""
        return int(self.settings.get(RESERVE, 0))

    @property
    def tf32(self) -> bool:
        """Whether fp32 convolutions may run on tensor cores: torch's switch, and NVIDIA's over all of its libraries."""
        return self.settings.get("allow_tf32") != "false" and self.settings.get("NVIDIA_TF32_OVERRIDE") != "0"

    @property
    def unified(self) -> bool:
        """Whether the card's memory is the host's, as that of GB10 alone is: what is moved there still takes it."""
        return self.capability == (12, 1)

    def is_set(self, name: str, default: bool = False) -> bool:
        """A switch of the environment, as c10's check_env reads it: 1 or 0, anything else is as good as unset."""
        return {"1": True, "0": False}.get(self.settings.get(name, ""), default)

    @property
    def title(self) -> str:
        """One line for a reader: the card and the versions."""
        card = self.gpu or "CPU"
        parts = [card, f"torch {self.torch}"]
        if self.device == "cuda":
            parts.append(f"cuDNN {format_cudnn(self.cudnn)}")
        if self.diffusers:
            parts.append(f"diffusers {self.diffusers}")
        return ", ".join(parts)


def format_cudnn(version: int | None) -> str:
    """cuDNN's integer version as text: 92000 is 9.20.0, 8902 is 8.9.2."""
    if version is None:
        return "unknown"
    if version >= 90000:
        return f"{version // 10000}.{version // 100 % 100}.{version % 100}"
    return f"{version // 1000}.{version // 100 % 10}.{version % 100}"


def differing_fields(a: Stack, b: Stack) -> list[str]:
    """Names of the fields in which two stacks differ, for a reader."""
    left, right = asdict(a), asdict(b)
    return [name for name in left if left[name] != right[name]]
