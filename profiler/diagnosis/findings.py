"""What stands out at the peak, each by a rule of its own, with the bytes at stake and the tensors that show it.

A rule looks at facts of the trace: who made a tensor, who reads it next, what an op borrowed. Findings overlap: one tensor
may be a float32 copy and also wait to be added as a residual. A finding's `options` might help; `estimate_remedies` finds
out which of them do.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod

from profiler.data.units import format_bytes
from profiler.diagnosis.lives import (
    BORROWED,
    KEPT,
    SPENT,
    Alive,
    Why,
    alive_at_peak,
    count_and_size,
    group_alike,
    made_in,
    short_name,
)
from profiler.diagnosis.profile import STANDING, Profile, ancestors
from profiler.kernels.convolution import why_without_cudnn

WORTH = 0.05  # of what the call adds to the baseline: smaller findings are left out
EVIDENCE = 5
DEPTH = 3  # of module paths
MOSTLY = 0.6
STAGING = 0.9  # of input and output together
REASONS: dict[Why, str] = {
    "residual": "residuals wait to be added",
    "waits": "made early, used later",
    "held": "held, though no op reads it again",
    "unread": "made and kept, but no op reads it",
}
DEAD: tuple[Why, ...] = ("held", "unread")  # which a generation tells line by line
LESS_RESOLUTION = ("tiling", "tile", "framewise", "slicing")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that stands out: `bytes` at stake at the peak, the `evidence` a line each, options that might help."""

    rule: str
    title: str
    bytes: int
    evidence: list[str] = field(default_factory=list)
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """What the rules look at: the profile, and why each block is `alive` at its peak, in the order of `profile.alive`."""

    profile: Profile
    alive: list[Alive]

    def pick(self, wanted: Callable[[Alive], bool]) -> list[Alive]:
        """The blocks alive for which `wanted` holds."""
        return [item for item in self.alive if wanted(item)]

    def because(self, *why: Why) -> list[Alive]:
        """The blocks alive for one of these reasons."""
        return self.pick(lambda item: item.why in why)


def find_all(profile: Profile) -> list[Finding]:
    """The findings of every rule that are worth a line, largest first; what is reserved beside the peak comes last."""
    scene = Scene(profile, alive_at_peak(profile))
    found = [rule(scene) for rule in RULES]
    reasons = {why: title for why, title in REASONS.items() if not (profile.phases and why in DEAD)}
    found += [make_finding(why, title, scene.because(why)) for why, title in reasons.items()]
    worth = WORTH * (profile.peak - profile.baseline)
    return sorted((f for f in found if f and f.bytes >= worth), key=lambda f: (f.rule == "reserved", -f.bytes))


def find_weights(scene: Scene) -> Finding | None:
    """Weights that are most of the peak bound what anything else could save."""
    found = scene.because("weights")
    size = sum_bytes(found)
    if size < scene.profile.peak / 2:
        return None
    share = f"{size / scene.profile.peak:.0%}"
    sums = Counter[str]()
    for item in found:
        sums[item.module.split(".")[0]] += item.bytes
    lines = [f"{format_bytes(bytes_)} in {name or 'the model itself'}" for name, bytes_ in sums.most_common(EVIDENCE)]
    return Finding(
        rule="weights",
        title=f"weights are {share} of the peak",
        bytes=size,
        evidence=lines,
        options=("bf16", "placement"),
    )


def find_fp32_stage(scene: Scene) -> Finding | None:
    """A stage that runs in float32 from end to end."""
    found = scene.pick(lambda item: item.dtype == "float32" and scene.profile.workload.dtype == "fp32")
    what = "what stands at the peak" if scene.profile.phases else "the whole stage"
    return make_finding("fp32-stage", f"{what} runs in float32", found, ("bf16",))


def find_heaviest_module(scene: Scene) -> Finding | None:
    """The innermost module, at most three levels down, that holds most of what the call adds."""
    found = scene.pick(lambda item: item.why not in STANDING and item.because != KEPT)
    sums = Counter[str]()
    for item in found:
        sums.update(dict.fromkeys(ancestors(item.module)[-1 - DEPTH : -1], item.bytes))
    # More than half is in at most one module of each depth, and that of a deeper one lies within it.
    path = max((path for path, size in sums.items() if size >= MOSTLY * sum_bytes(found)), key=len, default="")
    kind = scene.profile.usage.classes.get(path, "")
    if not path or kind == "ModuleList":
        return None
    workload = scene.profile.workload
    inside = [item for item in found if path in ancestors(item.module)]
    full = [item for item in inside if item.shape[-2:] == (workload.height, workload.width)]
    where = " at full resolution" if sum_bytes(full) > sum_bytes(inside) / 2 else ""
    return make_finding("place", f"{path} ({kind}){where} holds most of what the call adds", inside, LESS_RESOLUTION)


def find_convolution_workspace(scene: Scene) -> Finding | None:
    """Workspace that the convolution of the peak borrows: the kernel that it runs as decides what it is.

    cuDNN's, where it is about as large as input and output together, is their copies in channels-last order.
    """
    profile = scene.profile
    kernel = profile.usage.kernels.get(profile.peak_op)
    if kernel is None or not kernel.name.startswith("convolution"):
        return None
    found = scene.pick(lambda item: item.because == BORROWED)
    around = sum_bytes(scene.because("read", "written"))
    options: tuple[str, ...] = ("channels_last", *LESS_RESOLUTION)
    text = "borrows workspace"
    if kernel.name in ("convolution vol2col", "convolution im2col"):
        text = "runs without cuDNN: it writes out every output position with all its taps, and multiplies"
        options = ("newer_torch", "newer_cudnn", "fp16", *options)
    elif sum_bytes(found) >= STAGING * around and "channels-last" not in profile.workload.options.key:
        text = "copies its NCHW input and output into channels-last order"
    name = f"the convolution {profile.ops[profile.peak_op][0]} {text}"
    if (made := make_finding("convolution-workspace", name, found, options)) is not None:
        made.evidence.append(f"its input and output are {format_bytes(around)}; priced as {kernel.name}")
        if len(options) > len(LESS_RESOLUTION) + 1 and (why := why_without_cudnn(profile.stack)):
            made.evidence.append(why)
    return made


def find_upcast(scene: Scene) -> Finding | None:
    """float32 tensors in a 16-bit stage: casts, and what is computed from them."""
    dtype = scene.profile.workload.dtype
    made = scene.pick(lambda item: item.term in ("activations", "outputs") and dtype != "fp32")
    found = [item for item in made if item.dtype == "float32"]
    casts = sum(short_name(item.op) == "_to_copy" for item in found)
    return make_finding("upcast", f"float32 tensors in a {dtype} stage, {casts} of them by a cast", found)


def find_caches(scene: Scene) -> Finding | None:
    """Features that one call of a module leaves for its next call."""
    found = scene.because("cache")
    spent = sum_bytes(item for item in found if item.because == SPENT)
    title = "causal feature caches" + (f", {format_bytes(spent)} of them not read again" if spent else "")
    return make_finding("caches", title, found, LESS_RESOLUTION)


def find_finished_pixels(scene: Scene) -> Finding | None:
    """Pixels that are decoded already and wait to be joined. Where they are more than the whole clip, copies wait too."""
    profile = scene.profile
    if profile.workload.stage not in ("decode", "roundtrip"):
        return None
    shape = profile.output_shapes[0]
    made = scene.pick(lambda item: item.term in ("activations", "outputs"))
    found = [item for item in made if len(item.shape) == len(shape) and item.shape[1] == shape[1]]
    elements = sum(prod(item.shape) for item in found)
    title = f"finished pixels wait: {elements / prod(shape):.1f} x the whole answer"
    return make_finding("finished-pixels", title, found, LESS_RESOLUTION)


def find_join(scene: Scene) -> Finding | None:
    """The peak is a concatenation, which holds its inputs beside its result."""
    module, op = scene.profile.ops[scene.profile.peak_op]
    if short_name(op) not in ("cat", "stack"):
        return None
    title = f"{short_name(op)} in {module or 'the stage'} holds its inputs beside its result"
    return make_finding("join", title, scene.because("read", "written"), LESS_RESOLUTION)


def find_attention(scene: Scene) -> Finding | None:
    """Scores of an attention that no fused kernel takes, and scratch of one that does."""
    profile = scene.profile
    around = [(op, k) for op, k in profile.usage.kernels.items() if op <= profile.peak_op < k.end]
    op, kernel = next(((op, k) for op, k in around if k.name.startswith("attention")), (0, None))
    if kernel is None:
        return None
    blocks = zip(scene.alive, profile.alive, strict=True)
    found = [item for item, block in blocks if block.phase == "cold" and op <= block.op < kernel.end]
    name = kernel.name.removeprefix("attention ")
    what = "leaves the fused kernels, its scores are whole tensors" if name == "math" else f"runs as {name}"
    return make_finding("attention", f"attention {profile.ops[op][0]} {what} ({kernel.detail})", found, ("attention",))


def find_unused_reserve(scene: Scene) -> Finding | None:
    """Segments that hold no block at the peak of reserved bytes: what fragmentation costs."""
    profile = scene.profile
    if profile.reserved is None:
        return None
    slack = profile.reserved - profile.peak
    title = f"reserved is {slack / profile.peak:.0%} above allocated: segments whose blocks fit no later request"
    return Finding(rule="reserved", title=title, bytes=slack, options=("expandable_segments",))


RULES: tuple[Callable[[Scene], Finding | None], ...] = (
    find_weights,
    find_fp32_stage,
    find_heaviest_module,
    find_convolution_workspace,
    find_upcast,
    find_caches,
    find_finished_pixels,
    find_join,
    find_attention,
    find_unused_reserve,
)


def make_finding(name: str, title: str, found: Iterable[Alive], options: tuple[str, ...] = ()) -> Finding | None:
    """A finding about the blocks `found`, the largest of them as evidence, equal ones on one line. None without blocks."""
    found = list(found)
    if not found:
        return None
    groups = group_alike(found)
    lines = [describe_alike(group) for group in groups[:EVIDENCE]]
    if rest := [item for group in groups[EVIDENCE:] for item in group]:
        lines.append(f"{format_bytes(sum_bytes(rest))} in {len(rest)} more")
    return Finding(rule=name, title=title, bytes=sum_bytes(found), evidence=lines, options=options)


def describe_alike(group: list[Alive]) -> str:
    """A line of evidence for blocks of one shape and maker; the first speaks for those of other modules."""
    form = " ".join(group[0].form).removesuffix(" -")
    return f"{count_and_size(group)}  {form}, {made_in(group)}: {group[0].because}"


def sum_bytes(found: Iterable[Alive]) -> int:
    """Bytes together."""
    return sum(item.bytes for item in found)
