"""Every allocation and free as CSV, a line an event."""

import csv
import io

from profiler.diagnosis.profile import Profile

COLUMNS = ("event", "action", "bytes", "allocated", "phase", "module", "op", "term", "shape", "dtype")


def write(profile: Profile) -> bytes:
    """Bytes as the allocator hands them out; `allocated` is after the event."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for event, block, birth, total in profile.steps():
        what = ("alloc" if birth else "free", profile.sizes[block.number], total, block.phase)
        shape = "x".join(map(str, block.shape))
        rows.writerow((event, *what, profile.module(block), profile.op(block), block.term, shape, block.dtype))
    return text.getvalue().encode()
