"""Dead weight of a generation: bytes at the peak of a phase that nothing reads again, and the line that holds them."""

from collections import defaultdict
from dataclasses import dataclass, field

from profiler.data.events import Block, alive_at
from profiler.data.units import format_bytes
from profiler.diagnosis.findings import Finding, make_finding
from profiler.diagnosis.lives import as_alive, name_op
from profiler.diagnosis.profile import Profile
from profiler.diagnosis.source_lines import line_of

WORTH = 0.01  # of what stands at the peak of a phase beside weights
MOST = 10  # lines


@dataclass(frozen=True, kw_only=True)
class DeadWeight(Finding):
    """What one line of Python holds. `phases` are bytes by phase, `where` the line (`file.py:12`) and `code` its text.

    `bytes` are the most of any phase. Without it that phase's peak is lower by so much; the generation's peak is only if it
    stands in that phase. Where no line is known, both are empty.
    """

    where: str = ""
    code: str = ""
    phases: dict[str, int] = field(default_factory=dict)


def find_dead_weight(profile: Profile) -> list[DeadWeight]:
    """What lines hold through the peak of a phase though no op reads it again, most first. Of a stage nothing: see `held`.

    Weights belong to the placement, inputs and the answer to the caller, and what outlives the call may serve the next one.
    """
    held: dict[tuple[str, str], dict[str, list[Block]]] = defaultdict(dict)
    lines = {code: line_of(*code) for code in set(profile.usage.held.values())}
    worth: dict[str, float] = {}
    for phase, event in profile.phases.items():
        alive = alive_at(profile.blocks, event)
        worth[phase.name] = WORTH * profile.size([block for block in alive if block.term != "weights"])
        at = profile.blocks[max(profile.events[event], ~profile.events[event])].op
        for block in alive:
            if block.term == "activations" and block.died is not None and _last_use(profile, block) < at:
                line = lines[profile.usage.held[block.number]] if block.number in profile.usage.held else ("", "")
                held[line].setdefault(phase.name, []).append(block)
    found = []
    for (where, code), by_phase in held.items():
        sizes = {name: profile.size(blocks) for name, blocks in by_phase.items()}
        if kept := {name: size for name, size in sizes.items() if size >= worth[name]}:
            found.append(_describe(profile, by_phase[max(kept, key=kept.__getitem__)], where, code, kept))
    return sorted(found, key=lambda item: -item.bytes)[:MOST]


def _last_use(profile: Profile, block: Block) -> int:
    """The last op that reads the block or, where none does, that makes it; of a kernel of several ops the last of them."""
    last = max(profile.usage.reads.get(block.number, []), default=block.op)
    kernel = profile.usage.kernels.get(last)
    return kernel.end if kernel else last


def _describe(profile: Profile, blocks: list[Block], where: str, code: str, phases: dict[str, int]) -> DeadWeight:
    items = []
    for block in blocks:
        reads = profile.usage.reads.get(block.number, [])
        because = f"last read by {name_op(profile, reads[-1])}" if reads else "never read"
        items.append(as_alive(profile, block, "held" if reads else "unread", because))
    held = f", held by {where}" if where else ""
    base = make_finding("dead-weight", f"dead weight in {', '.join(phases)}{held}: no op reads it again", items)
    assert base is not None
    lines = [code] if code else []
    if len({*phases.values()}) > 1:
        lines.append("at the peak of " + ", ".join(f"{name} {format_bytes(size)}" for name, size in phases.items()))
    about = vars(base) | {"evidence": lines + base.evidence}
    return DeadWeight(**about, where=where, code=code, phases=phases)
