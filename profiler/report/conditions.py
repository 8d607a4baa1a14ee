"""The conditions of the numbers: every distinct stack of a report side by side, and when its cases ran."""

from collections import Counter
from collections.abc import Iterable, Sequence

from profiler.comparison.case import Comparison
from profiler.data.stack import Stack, format_cudnn
from profiler.data.units import format_bytes
from profiler.report.words import KINDS, plural

NO_GPU = "none: CPU"


def stack_uses(comparisons: Iterable[Comparison]) -> list[tuple[Stack, str]]:
    """Each distinct stack once, in order of appearance, and what it was used for in words."""
    found: dict[str, tuple[Stack, Counter[str]]] = {}
    for comparison in comparisons:
        for role, stack in _roles(comparison):
            found.setdefault(stack.fingerprint, (stack, Counter()))[1][role] += 1
    return [
        (stack, ", ".join(f"{role} ({plural(count, 'case')})" for role, count in roles.items()))
        for stack, roles in found.values()
    ]


def stack_rows(uses: Sequence[tuple[Stack, str]]) -> list[tuple[str, list[str], bool]]:
    """The stacks as a table: of each field its label, its text on each stack, and whether they differ in it."""
    facts = [_facts(stack) for stack, _ in uses]
    labels = dict.fromkeys(label for fact in facts for label in fact)
    columns = [(label, [fact.get(label, "not set") for fact in facts]) for label in labels]
    return [(label, texts, len(set(texts)) > 1) for label, texts in columns if set(texts) != {NO_GPU}]


def kinds(comparisons: Iterable[Comparison]) -> list[str]:
    """Each kind of number that is present, in words, with its count of cases."""
    counts = Counter[str](comparison.record.kind for comparison in comparisons)
    return [f"{words} ({plural(counts[kind], 'case')})" for kind, words in KINDS.items() if counts[kind]]


def period(comparisons: Sequence[Comparison]) -> str:
    """When the cases ran, from their records."""
    if not comparisons:
        return "no case was run"
    starts = sorted(comparison.record.started for comparison in comparisons)
    seconds = sum(comparison.record.seconds for comparison in comparisons)
    if len(starts) == 1:
        return f"{starts[0]}, {seconds:.1f} s"
    span = starts[0] if starts[0] == starts[-1] else f"{starts[0]} to {starts[-1]}"
    return f"{span} (start of the first and the last), {seconds:.1f} s in all"


def _roles(comparison: Comparison) -> list[tuple[str, Stack]]:
    record = comparison.record
    roles = [(side.role, side.stack) for side in (record.measurement, record.estimate) if side]
    if record.stack is not None and record.measurement is None and record.status != "ok":
        roles.append(("tried in a dry run of" if record.stack.dry else "tried on", record.stack))
    return roles


def _facts(stack: Stack) -> dict[str, str]:
    gpu = {
        "GPU": stack.gpu,
        "compute capability": stack.capability and ".".join(map(str, stack.capability)),
        "multiprocessors": stack.multiprocessors,
        "device memory": stack.device_total_bytes and format_bytes(stack.device_total_bytes),
        "driver": stack.driver,
        "CUDA": stack.cuda,
        "cuDNN": stack.cudnn and format_cudnn(stack.cudnn),
    }
    missing = NO_GPU if stack.device == "cpu" else "not recorded"
    facts = {label: missing if value is None else str(value) for label, value in gpu.items()}
    versions = {"torch": stack.torch, "diffusers": stack.diffusers, "Python": stack.python}
    return facts | {label: value or "not recorded" for label, value in versions.items()} | stack.settings
