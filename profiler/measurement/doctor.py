"""Looks at this machine before anything is measured: what is here, and what would falsify or hinder a measurement."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from profiler.data.stack import DRY, Stack, format_cudnn
from profiler.data.units import format_bytes
from profiler.errors import UserError
from profiler.files.paths import installed
from profiler.files.write import write_atomically
from profiler.kernels.convolution import skips_cudnn_conv3d, why_without_cudnn
from profiler.kernels.cudnn_plans import SHIPPED_BY, installed_is_ahead_by
from profiler.kernels.cudnn_process import try_planner
from profiler.machine import nvml
from profiler.machine.cards import assumed_stack, find_gpu
from profiler.machine.environment import check_settings, say_settings
from profiler.machine.probe import ask, probe_stack

Level = Literal["ok", "note", "warning"]
NEEDED = ("torch", "diffusers", "accelerate", "nvidia-ml-py", "pandas", "pydantic")


@dataclass(frozen=True)
class Finding:
    """One line of the answer: what was looked at, what was seen, and what to do about it where it is a warning."""

    level: Level
    subject: str
    text: str


def doctor() -> tuple[Stack, list[Finding], list[dict[str, Any]]]:
    """This machine: its stack, what would hinder a measurement, and NVML's reading of each GPU."""
    stack, device = _device()
    gpus, seen = _nvml()
    packages = [_package(name) for name in NEEDED]
    return stack, [*packages, _planner(stack), device, *_routes(stack), *_settings(stack), *seen], gpus


def _package(name: str) -> Finding:
    version = installed(name)
    return Finding("ok", name, version) if version else Finding("warning", name, f"not installed: pip install {name}")


def _planner(stack: Stack) -> Finding:
    """Whether cuDNN says here what convolutions borrow, and whom estimates for this stack ask, in which order."""
    trial = try_planner()
    wanted = stack.cudnn or assumed_stack(find_gpu("h200")).cudnn or SHIPPED_BY
    asks = f"estimates for cuDNN {format_cudnn(wanted)}"
    shipped = f"the shipped plans of cuDNN {format_cudnn(SHIPPED_BY)}"
    if trial.reason:
        return Finding("note", "planner", f"{trial.reason}; {asks} ask {shipped}, then a closed form")
    answer = f"{trial.bytes:,} B for a convolution on an H200"
    who = f"cuDNN {trial.library}, through front-end {trial.front_end}, answers: {answer}"
    ahead = installed_is_ahead_by(wanted)
    if ahead < 0:
        return Finding("note", "planner", f"{who}; {asks} do not ask it, but {shipped}, then a closed form")
    order = f"it, then {shipped}" if ahead > 0 else f"{shipped}, then it"
    return Finding("ok", "planner", f"{who}; {asks} ask {order}, then a closed form")


def _device() -> tuple[Stack, Finding]:
    try:
        stack = probe_stack("cuda")
    except UserError as error:
        return probe_stack("cpu"), Finding("note", "CUDA", f"{error} (estimates need no GPU)")
    found = f"{stack.title}, {format_bytes(stack.device_total_bytes)}, driver {stack.driver}"
    return stack, Finding("ok", "CUDA", found)


def _routes(stack: Stack) -> list[Finding]:
    """Kernel routes that cost several times the usual memory."""
    if stack.device != "cuda" or not skips_cudnn_conv3d(stack):
        return []
    return [Finding("warning", "conv3d", f"{why_without_cudnn(stack)}; they take several times the memory")]


def _settings(stack: Stack) -> Iterator[Finding]:
    """What the environment sets that changes memory, and whether there can be an estimate for it."""
    for name, value in sorted(stack.settings.items()):
        one = replace(stack, device="cuda", settings={name: value})
        try:
            check_settings(one)
        except UserError as error:
            yield Finding("warning", "environment", f"{name}={value}: {error}; estimates for this stack fail")
            continue
        if said := say_settings(one):
            yield Finding("note", "environment", f"{said}: part of the stack's fingerprint")


def _nvml() -> tuple[list[dict[str, Any]], list[Finding]]:
    listed = nvml.devices()
    if listed.value is None:
        return [], [Finding("note", "NVML", f"{listed.reason}: device bytes will be unknown")]
    gpus = [nvml.snapshot(uuid) for uuid in listed.value]
    findings = []
    for gpu in gpus:
        used = f"{format_bytes(gpu['used_bytes'])} of {format_bytes(gpu['total_bytes'])} in use"
        findings.append(Finding("ok", f"NVML {gpu['name']}", used))
        if gpu["others"]:
            pids = ", ".join(str(other["pid"]) for other in gpu["others"])
            findings.append(
                Finding("warning", "other processes", f"pids {pids} hold memory on this GPU: device bytes will drift")
            )
    return gpus, findings


def write_card(path: Path, ladder: dict[str, Any] | None = None) -> None:
    """Write this machine's card as a file of `configs/gpus`; with `ladder`, the context's size too.

    Raises UserError where there is no CUDA device.
    """
    import yaml

    try:
        card = ask("card")
    except UserError as error:
        raise UserError(f"{error}; run it on the machine that has the card") from error
    steps = [size for size in (ladder or {}).get("bytes", {}).values() if size is not None]
    context = max(steps, default=None)
    read = f"read off the card, driver {card['properties']['driverVer']}"
    if DRY in os.environ:
        read = "read off a dry run's card, which is not a card"
    measured = "after convolution and attention, by NVML" if context else "not measured: doctor --context"
    sources = dict.fromkeys(card, read) | {"context_bytes": measured}
    name = card["name"].removeprefix("NVIDIA ").removeprefix("GeForce ")
    data = {"id": re.sub(r"[^a-z0-9]+", "-", name.lower()), **card, "context_bytes": context, "sources": sources}
    write_atomically(path, yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120))
