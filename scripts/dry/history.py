"""The allocator's history as one stream: a birth is its bytes, a death is minus the birth's number, counted from 1."""

from typing import Any


def stream_of(history: list[dict[str, Any]], death: str = "free_completed") -> list[int]:
    """What torch's memory history says, with `death` as the action that ends a block. Blocks of before are left out."""
    numbers: dict[int, int] = {}
    stream: list[int] = []
    births = 0
    for event in history:
        if event["action"] == "alloc":
            births += 1
            numbers[event["addr"]] = births
            stream.append(event["size"])
        elif event["action"] == death and event["addr"] in numbers:
            stream.append(-numbers.pop(event["addr"]))
    return stream
