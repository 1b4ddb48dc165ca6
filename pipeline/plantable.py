"""A plan as a table for people and as JSON for scripts."""

from collections.abc import Sequence

from pipeline.alternatives import Alternative
from pipeline.feed import describe_input
from pipeline.footprint import Basis
from pipeline.measured import Measured
from pipeline.plan import Plan, StagePlan
from pipeline.planning import Outcome
from pipeline.progress import duration, size
from pipeline.tables import as_json, as_text, new_table

NOTES: dict[Basis | None, str] = {
    "bound": "\nat most: before compression, of stages that are not trained yet",
    "sample": "\nabout: within 2%, from a sample that was encoded",
}


def plan_json(plan: Plan) -> str:
    """The plan as it is kept in plan.json, on one line."""
    return as_json(plan)


def plan_table(plan: Plan) -> str:
    """The stages, what all of them take, and what else could be done."""
    peaks = [stage.device_peak_bytes for stage in plan.stages] + [one.device_peak_bytes for one in plan.measured]
    has_device = any(peak is not None for peak in peaks)
    on_device = ["device", "micro-batch"] if has_device else []
    table = new_table(
        "stage", "input", "writes", "written", "deletes", "on disk", *on_device, "images/s", "time", "waits for"
    )
    measured = {one.j: one for one in plan.measured}
    predicted = {(one.j, one.settings): one for one in plan.predicted}
    for stage in plan.stages:
        if stage.j in measured:
            then = predicted.get((stage.j, stage.settings))
            table.add_row(*_cells_of_trained(measured[stage.j], then, stage, has_device=has_device))
        else:
            table.add_row(*_cells(stage, has_device=has_device))
    return "\n".join([as_text(table), "", _totals(plan), "", _alternatives(plan.alternatives)])


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """What was predicted of trained stages, and after the slash what came of it."""
    table = new_table("stage", "training", "images/s", "stored", "device")
    for one in outcomes:
        then, now = one.predicted, one.measured
        table.add_row(
            str(now.j),
            f"{duration(then.training_seconds) if then else '-'} / {duration(now.seconds)}",
            f"{_rate(then.images_per_second if then else None)} / {_rate(now.images_per_second)}",
            f"{size(then.written_bytes)} / {_stored(now)}" if then and then.written_bytes else "-",
            f"{_peak(then.device_peak_bytes if then else None)} / {_peak(now.device_peak_bytes)}",
        )
    return f"predicted / measured\n{as_text(table)}"


def _cells(stage: StagePlan, *, has_device: bool) -> list[str]:
    return [
        str(stage.j),
        describe_input(stage.anchor, stage.j),
        _store(stage.writes),
        _figure(stage.written_bytes, stage.written_basis) if stage.written_basis else "-",
        _store(stage.deletes),
        _figure(stage.alive_bytes, stage.alive_basis),
        *([_peak(stage.device_peak_bytes), _parts(stage)] if has_device else []),
        _rate(stage.images_per_second),
        duration(stage.seconds),
        stage.limited_by,
    ]


def _cells_of_trained(now: Measured, then: StagePlan | None, left: StagePlan, *, has_device: bool) -> list[str]:
    """What came of a stage, the input as it was planned, and what of its output is still to be written."""
    is_due = left.seconds > 0
    return [
        str(now.j),
        describe_input(then.anchor, now.j) if then else "-",
        _store(now.j + 1 if is_due or now.stored_bytes else None),
        _figure(left.written_bytes, left.written_basis) if is_due and left.written_basis else _stored(now),
        "-",
        "-",
        *([_peak(now.device_peak_bytes), str(now.micro_batch or "-")] if has_device else []),
        _rate(now.images_per_second),
        f"training {duration(now.seconds)}",
        f"done but for x_{now.j + 1}" if is_due else "done",
    ]


def _stored(now: Measured) -> str:
    """Of the output of a trained stage, where it is there: it may have been deleted."""
    return size(now.stored_bytes) if now.stored_bytes else "-"


def _parts(stage: StagePlan) -> str:
    """As in "64" or "64, recomputed"."""
    return f"{stage.micro_batch}{', recomputed' if stage.recompute else ''}"


def _rate(images_per_second: float | None) -> str:
    return "-" if images_per_second is None else f"{images_per_second:,.0f}"


def _peak(nbytes: int | None) -> str:
    return "-" if nbytes is None else size(nbytes)


def _totals(plan: Plan) -> str:
    parts = {
        "training": sum(stage.training_seconds for stage in plan.stages),
        "tests, scales and checkpoints": sum(stage.ending_seconds for stage in plan.stages),
        "writing": sum(stage.writing_seconds for stage in plan.stages),
    }
    shares = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
    replaying = duration(sum(stage.replaying_seconds for stage in plan.stages))
    reading = duration(sum(stage.reading_seconds for stage in plan.stages))
    bases = {basis for stage in plan.stages for basis in (stage.alive_basis, stage.written_basis)}
    notes = "".join(note for basis, note in NOTES.items() if basis in bases)
    beside = f" of stores, and at most {size(plan.beside_bytes)} beside them" if plan.beside_bytes else ""
    drops = "".join(f"\nx_{i} goes first: there is no room for it beside the plan" for i in plan.drops)
    images = ", ".join(f"{count:,} {split}" for split, count in plan.images.items())
    spent = duration(sum(one.seconds for one in plan.measured))
    begins = f"as measured {spent} of training done; left to do" if plan.measured else "in all"
    return (
        f"for {images} images\n"
        f"{begins} {duration(plan.seconds)}: {shares}; of it replaying {replaying}, the disk reads for {reading}\n"
        f"on disk at a time: {_figure(plan.peak_bytes, plan.peak_basis)}{beside}, of {size(plan.disk_bytes)}"
        f"{notes}{_real_steps(plan)}{_needs(plan)}{drops}"
    )


def _needs(plan: Plan) -> str:
    """Of what was not chosen to fit on the disk, and does not, a line that says so; else ""."""
    if plan.needs_bytes is None:
        return ""
    what, is_bound = ", ".join(f"x_{i}" for i in _counted(plan)), plan.peak_basis == "bound"
    may = is_bound and not plan.is_refused
    return (
        f"\n{'may' if may else 'does'} not fit: {what}{', two at a time,' if plan.frees else ''} and what is kept "
        f"beside take {'at most ' if is_bound else ''}{size(plan.needs_bytes)} of disk, and "
        f"{size(plan.disk_bytes)} are there"
    )


def _counted(plan: Plan) -> list[int]:
    """Indices of the stores that count on its disk: x_J too, where that is written."""
    return sorted({*plan.anchors, *(one.writes for one in plan.stages if one.writes is not None)})


def _real_steps(plan: Plan) -> str:
    """By how much real steps have corrected the predictions, as far as any were run."""
    own = [(one.j, one.device_beside_bytes) for one in plan.stages if one.device_beside_bytes is not None]
    words = ", ".join(f"stage {j} {'-' if nbytes < 0 else '+'}{size(abs(nbytes))}" for j, nbytes in own)
    return f"\ndevice peaks are corrected by real steps: {words}" if own else ""


def _alternatives(alternatives: Sequence[Alternative]) -> str:
    table = new_table("instead", "stores", "on disk", "time", "note")
    for one in alternatives:
        notes = [
            "" if one.fits else "does not fit on the disk",
            "another method, which trains anew" if one.changes_results else "",
        ]
        stores = ", ".join(f"x_{i}" for i in one.anchors[1:]) or "-"
        table.add_row(
            one.name,
            stores,
            _figure(one.peak_bytes, one.peak_basis),
            duration(one.seconds),
            "; ".join(filter(None, notes)),
        )
    return as_text(table)


def _figure(nbytes: int, basis: Basis) -> str:
    """Bytes, and how sure they are."""
    return {"stored": "", "raw": "", "sample": "about ", "bound": "at most "}[basis] + size(nbytes)


def _store(index: int | None) -> str:
    return "-" if index is None else f"x_{index}"
