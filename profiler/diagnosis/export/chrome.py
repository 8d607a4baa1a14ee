"""Chrome's trace format, for ui.perfetto.dev: module calls as slices, bytes by module as a counter."""

import json
from bisect import bisect_left
from typing import Any

from profiler.diagnosis.profile import Profile
from profiler.diagnosis.timeline import make_timeline

POINTS = 20_000
PROCESS, MODULES = 1, 1


def write(profile: Profile) -> bytes:
    """The JSON object form of the format; `ts` and `dur` are event numbers in the place of microseconds."""
    events = [*_names(profile), *_slices(profile), *_counters(profile)]
    data = {"traceEvents": events, "otherData": {"workload": profile.workload.key, "source": profile.source}}
    return json.dumps(data, separators=(",", ":")).encode()


def _names(profile: Profile) -> list[dict[str, Any]]:
    title = f"{profile.workload.key}, {profile.source}; time is the number of the allocator's event"
    base = {"ph": "M", "ts": 0, "pid": PROCESS, "tid": MODULES}
    return [
        base | {"name": "process_name", "args": {"name": title}},
        base | {"name": "thread_name", "args": {"name": "modules"}},
    ]


def _slices(profile: Profile) -> list[dict[str, Any]]:
    """The calls that allocate, from their first op to their last.

    The time of an op is the event of its first allocation; for an op without one, of the next op's that has one.
    """
    births = [block for block in profile.blocks if block.phase == "cold"]
    ops, ends = [block.op for block in births], len(profile.events)

    def time(op: int) -> int:
        at = bisect_left(ops, op)
        return births[at].born if at < len(births) else ends

    found = []
    for call in profile.usage.calls:
        start, end = time(call.first), time(call.end)
        if end > start:
            name = profile.usage.classes.get(call.path, "")
            common = {"ph": "X", "pid": PROCESS, "tid": MODULES, "cat": "module", "args": {"class": name}}
            found.append(common | {"name": call.path or name, "ts": start, "dur": end - start})
    return found


def _counters(profile: Profile) -> list[dict[str, Any]]:
    found = make_timeline(profile, POINTS)
    return [
        {
            "name": "allocated bytes",
            "ph": "C",
            "ts": point.event,
            "pid": PROCESS,
            "args": dict(zip(found.groups, point.by_group, strict=True)),
        }
        for point in found.points
    ]
