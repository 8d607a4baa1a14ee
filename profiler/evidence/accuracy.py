"""How good the estimates are: every estimate made anew, laid beside what is known, and beside the peers' formulas.

What is known comes from runs (measured, or dry) and from published figures; the kinds are never mixed. An estimate is for
the stack of its figure. Each predictor is judged on the quantities that it is for, and a case that cannot be compared
stays in the table with its reason.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mode
from typing import TYPE_CHECKING, Any

from profiler._version import __version__
from profiler.comparison.case import compare, figures
from profiler.data.records import Estimate, Record
from profiler.data.stack import Stack
from profiler.data.workload import Workload
from profiler.errors import LatentmeterError, UserError
from profiler.estimation.calls import estimate_case
from profiler.evidence.peers import QUANTITY, Peer, peer_figures
from profiler.evidence.published import Published, read_published
from profiler.files.paths import installed
from profiler.files.store import RunStore
from profiler.kernels.cudnn_library import front_end_version
from profiler.kernels.cudnn_plans import CLOSED_FORM
from profiler.machine.cards import find_gpu
from profiler.models.find import find_model
from profiler.models.pipeline_folder import find_pipeline
from profiler.models.spec import ModelSpec

if TYPE_CHECKING:
    import pandas as pd

QUANTITIES = ("allocated", "reserved", "reserved_growth", "weights", "warm_allocated", "warm_reserved")
OURS = "latentmeter"
GROUP = ["kind", "gpu", "model", "stage", "dtype", "options"]
Figures = dict[str, int | None]


@dataclass(frozen=True, kw_only=True)
class Known:
    """One case whose figures are known: a record, or a published figure (`half_digit`: half its last digit, bytes).

    `context_bytes` is what CUDA took outside the allocator in that run, where it is known.
    """

    kind: str
    source: str
    workload: Workload
    stack: Stack | None
    figures: Figures
    record: Record | None = None
    half_digit: int = 0
    context_bytes: int | None = None


def collect(sources: Sequence[str | Path], gpu: str | None = None) -> list[Known]:
    """Every case under `sources`: run folders, folders of them, files of published figures; `gpu` keeps one card's.

    Raises UserError where there is none, and for a card that is not known.
    """
    card = find_gpu(gpu).name if gpu else None
    found: list[Known] = []
    for path in map(Path, sources):
        if not path.exists():
            raise UserError(f"{path}: does not exist; give a run's folder, a folder of runs, or a published.yaml")
        files = [path] if path.is_file() else sorted([*path.rglob("run.json"), *path.rglob("published.yaml")])
        for file in files:
            if file.suffix == ".yaml":
                found += map(_published, read_published(file))
            else:
                found += _recorded_in(file.parent)
    found = [case for case in found if card is None or (case.stack and case.stack.gpu == card)]
    if not found:
        raise UserError(f"{', '.join(map(str, sources))}: no run with measurements and no published figure")
    return found


def judge(cases: Iterable[Known], *, closed_form: bool = False) -> "pd.DataFrame":
    """Each case with an estimate made now, for its own stack: a row a case. With `closed_form` cuDNN's plans are left out.

    Sizes are `<who> <quantity>` in bytes, unknown as NA. `reason` says why a case is not comparable; empty where it is.
    """
    import pandas as pd

    asked = CLOSED_FORM.set(closed_form)
    try:
        frame = pd.DataFrame([_judge(case) for case in cases], dtype=object)
    finally:
        CLOSED_FORM.reset(asked)
    sizes = [
        name for name in frame if str(name).endswith(QUANTITIES) or name in ("planned", "closed_form", "safe_reserved")
    ]
    return frame.astype(dict.fromkeys(sizes, "Int64") | {"half_digit": "int64"})


def errors(frame: "pd.DataFrame") -> "pd.DataFrame":
    """One row a comparison: a predictor, a quantity, its error as a share, and whether it is the known figure."""
    import pandas as pd

    parts = []
    for column in (str(name) for name in frame):
        who, _, quantity = column.rpartition(" ")
        if quantity not in QUANTITIES or who == "known":
            continue
        part = frame[[*GROUP, "key"]].assign(who=who, quantity=quantity)
        difference = frame[column] - frame[f"known {quantity}"]
        part["error"] = (difference / frame[f"known {quantity}"]).astype("Float64")
        part["equal"] = difference.abs() <= frame["half_digit"]
        parts.append(part[(frame["reason"] == "") & part["error"].notna()])
    return pd.concat(parts, ignore_index=True)


def summarize(found: "pd.DataFrame", by: Sequence[str]) -> "pd.DataFrame":
    """What `errors` found, a row for each group of cases, predictor and quantity; `by` names the columns that make a group.

    Columns: `rows` counts the comparisons, `median` is that of the errors' sizes, `worst` the largest error with its sign,
    `equal` counts estimates that are the known figure. By ["gpu"], one of the rows says how
    good this project's reserved bytes are on an H200.
    """
    keys = [*by, "who", "quantity"]
    found = found.assign(size=found["error"].abs())
    worst = found.loc[found.groupby(keys)["size"].idxmax()].set_index(keys)["error"]
    grouped = found.groupby(keys).agg(rows=("size", "size"), median=("size", "median"), equal=("equal", "sum"))
    return grouped.assign(worst=worst)


def side_by_side(found: "pd.DataFrame") -> "pd.DataFrame":
    """For each peer its `summarize` by kind, and this project's on the very same cases beside it (suffix `_ours`)."""
    import pandas as pd

    same = [*GROUP, "key", "quantity"]
    ours, parts = found[found["who"] == OURS], []
    for _, theirs in found[found["who"] != OURS].groupby("who"):
        shared = ours.merge(theirs[same], on=same).assign(who=theirs["who"].iloc[0])
        parts.append(summarize(theirs, ["kind"]).join(summarize(shared, ["kind"]).add_suffix("_ours")))
    return pd.concat(parts) if parts else pd.DataFrame()  # a model that no peer has a formula for


def beyond(frame: "pd.DataFrame", share: float) -> bool:
    """Whether an estimate of allocated or reserved bytes is off by more than `share` in a measured or dry case."""
    found = errors(frame)
    asked = (found["who"] == OURS) & found["quantity"].isin(QUANTITIES[:2]) & found["kind"].isin(["measured", "dry"])
    return not (found.loc[asked, "error"].abs() <= share).all()  # so asked, a `share` that is no number passes nothing


def conditions(frame: "pd.DataFrame", command: str, *, closed_form: bool = False) -> dict[str, str]:
    """What the reader must know of a table: command, date, versions, and where convolution workspace came from."""
    planned, closed = int(frame["planned"].sum()), int(frame["closed_form"].sum())
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "latentmeter": f"{__version__}, torch {installed('torch')}, diffusers {installed('diffusers')}",
        "planner": "not asked, nor are shipped plans" if closed_form else front_end_version() or "not installed",
        "convolutions": f"{planned:,} by cuDNN's own plans, {closed:,} by the closed form",
        "cases": f"{len(frame)}, {int((frame['reason'] == '').sum())} of them compared",
    }


def _recorded_in(folder: Path) -> Iterator[Known]:
    """The cases of a run that were measured or tried. Its usual context counts for all: some end without one."""
    records = [record for record in RunStore(folder).records() if "@" not in record.key]
    context = mode([r.measurement.terms.context for r in records if r.measurement is not None] or [None])
    for record in records:
        stack = record.measurement.stack if record.measurement else record.stack
        yield Known(
            kind=_kind(stack),
            source=str(folder),
            workload=record.workload,
            stack=stack,
            figures=figures(record.measurement),
            record=record,
            context_bytes=context,
        )


def _kind(stack: Stack | None) -> str:
    """What a run on `stack` gives, also where it ended without figures."""
    if stack is None or stack.device == "cpu":
        return "cpu"
    return "dry" if stack.dry else "measured"


def _published(figure: Published) -> Known:
    return Known(
        kind="published",
        source=figure.id,
        workload=figure.workload,
        stack=figure.stack,
        figures={figure.quantity: figure.bytes},
        half_digit=figure.half_digit,
    )


def _judge(case: Known) -> dict[str, Any]:
    """One line of the CSV: sizes in bytes, unknown as None."""
    workload, stack = case.workload, case.stack
    made, peers, reason = _estimate(case)
    predicted = figures(made)
    if case.record is not None and made is not None:
        row = compare(replace(case.record, estimate=made))
        predicted["allocated"] = row.allocated.estimated  # on the CPU: with what kernels were measured to borrow
        reason = row.reason if row.verdict == "not comparable" else ""
    routes = {name: made and made.routes.get(f"convolution cudnn, {name}", 0) for name in ("planned", "closed form")}
    return {
        "kind": case.kind,
        "gpu": (stack.gpu or "CPU") if stack else None,  # a row without a name would be in no group
        "torch": stack.torch if stack else None,
        "model": workload.model,
        "stage": workload.stage,
        "dtype": workload.dtype,
        "options": workload.options.key,
        "key": workload.key,
        "source": case.source,
        "status": case.record.status if case.record else "ok",
        "reason": reason,
        "fits": made.fits if made else None,
        "half_digit": case.half_digit,
        "planned": routes["planned"],
        "closed_form": routes["closed form"],
        "safe_reserved": made.safe_reserved_bytes if made else None,
        **{f"known {name}": case.figures.get(name) for name in QUANTITIES},
        **{f"{OURS} {name}": predicted.get(name) for name in QUANTITIES},
        **{f"{peer} {QUANTITY[peer]}": size for peer, size in peers.items()},
    }


def _estimate(case: Known) -> tuple[Estimate | None, dict[Peer, int | None], str]:
    """The estimate for the case's own stack and the peers' figures; without them, the reason."""
    if case.stack is None:
        return None, {}, "no stack recorded"
    try:
        spec = (find_pipeline if case.workload.generation else find_model)(case.workload.model)
        made, _ = estimate_case(case.workload, spec, case.stack, context_bytes=case.context_bytes)
    except LatentmeterError as error:
        return None, {}, str(error)
    return made, peer_figures(case.workload, spec) if isinstance(spec, ModelSpec) else {}, ""
