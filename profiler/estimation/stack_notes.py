"""What has to be said of a stack before any figure: settings, releases that nobody looked at, and kernels of last resort."""

from collections.abc import Mapping

from profiler.data.stack import Stack, format_cudnn
from profiler.kernels.convolution import why_without_cudnn
from profiler.kernels.cudnn_plans import SHIPPED_BY, Sources
from profiler.machine.environment import say_settings
from profiler.machine.versions import say_old_cudnn, say_torch

UNIFIED = "this card's memory is the host's: what is offloaded to the CPU stays in it, and saves nothing"


def stack_notes(stack: Stack, routes: Mapping[str, int], sources: Sources) -> dict[str, str]:
    """The remarks by their names in `notes`, all of which begin with `stack.`; those of the CPU are none."""
    if stack.device != "cuda":
        return {}
    said = {
        "stack.settings": say_settings(stack),
        "stack.torch": say_torch(stack),
        "stack.planner": say_closed_form(routes, sources),
        "stack.cudnn": "; ".join(filter(None, (say_plans(stack, sources), say_old_cudnn(stack)))),
        "stack.plans": say_siblings(stack, sources),
        "stack.memory": UNIFIED if stack.unified else "",
        "stack.convolutions": say_slow_convolutions(stack, routes),
    }
    return {name: text for name, text in said.items() if text}


def say_closed_form(routes: Mapping[str, int], sources: Sources) -> str:
    """That no plan is known for some convolutions, and why."""
    count = routes.get("convolution cudnn, closed form", 0)
    if not count or not sources.unplanned:
        return ""
    total = count + routes.get("convolution cudnn, planned", 0)
    why = "; ".join(sources.unplanned)
    return (
        f"workspace of {count} of {total} convolutions by a closed form, which is approximate and read off cuDNN "
        f"{format_cudnn(SHIPPED_BY)}: {why}"
    )


def say_siblings(stack: Stack, sources: Sources) -> str:
    """Which other card's plans answered for this one."""
    said = " and ".join(f"{count} distinct convolutions by plans of {name}" for name, count in sources.siblings.items())
    return f"{said}: {stack.gpu} has the same architecture, multiprocessors and shared memory" if said else ""


def say_plans(stack: Stack, sources: Sources) -> str:
    """That plans are those of another cuDNN than the stack's, and how many distinct convolutions which one planned."""
    others = [
        f"{count} distinct convolutions is by plans of cuDNN {format_cudnn(version)}"
        for version, count in sorted(sources.planned_by.items())
        if version // 100 != (stack.cudnn or version) // 100
    ]
    if not others:
        return ""
    said = " and ".join(others)
    return f"workspace of {said}: those of {format_cudnn(stack.cudnn)} are not known, and may borrow more or less"


def say_slow_convolutions(stack: Stack, routes: Mapping[str, int]) -> str:
    """That convolutions go without cuDNN, and what that costs."""
    counts = {name: routes.get(f"convolution {name}", 0) for name in ("vol2col", "im2col")}
    slow = " and ".join(f"{count} by {name}" for name, count in counts.items() if count)
    if not slow:
        return ""
    return (
        f"convolutions: {slow}, not by cuDNN: {why_without_cudnn(stack)}; such a convolution writes every output position "
        "with all its taps, several times the memory"
    )
