"""Which sizes a model takes, as a model file writes it: `image`, `any`, `8k`, or `4k+1` for k = 0, 1, 2, ..."""

from profiler.errors import UserError

SIZE_RULE = r"^[1-9]\d*k(\+\d+)?$"
FRAME_RULE = r"^(image|any|[1-9]\d*k(\+\d+)?)$"


def step_and_first(rule: str) -> tuple[int, int]:
    """The two numbers of a rule with k: 4 and 1 of `4k+1`, 8 and 0 of `8k`."""
    step, _, first = rule.partition("k")
    return int(step), int(first or 0)


def check_size(name: str, value: int, rule: str, where: str) -> None:
    """Raise UserError with the nearest sizes unless `value` obeys `rule`."""
    if rule == "any":
        return
    if rule == "image":
        if value != 1:
            raise UserError(f"{name}: this is an image model, so {name} must be 1, got {value}")
        return
    step, first = step_and_first(rule)
    smallest = first or step
    if value >= smallest and (value - first) % step == 0:
        return
    below = (value - first) // step * step + first
    near = f"{below} or {below + step}" if below >= smallest else f"{smallest}"
    form = f"of the form {rule}" if first else f"a multiple of {step}"
    raise UserError(f"{name}: {value} is not {form}, as {where} needs; nearest: {near}")
