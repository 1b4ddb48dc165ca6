"""What of a run is done, what is not, and why, as far as names and records say: no weights and no chunks are read."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cache import StoreError
from pipeline.acceptance import accept_stale, describe_accepted
from pipeline.branches import changes, read_records
from pipeline.calibration import scale_is_due
from pipeline.checkpoint import Position, read_position
from pipeline.disk import folder_bytes
from pipeline.errors import CorruptDataError, RefusedError, first_line
from pipeline.feed import describe_input
from pipeline.needed import output_is_due
from pipeline.record import stage_path
from pipeline.refits import Refit, find_refits
from pipeline.runfolder import RunFolder, store_bytes
from pipeline.shapes import stage_epochs


@dataclass(frozen=True)
class StageStatus:
    """One row of `cascade status`."""

    j: int
    """Index of the stage."""
    state: str
    """done; trained (its output is still to be written); damaged (a file of it is missing); partial (some epochs);
    stale (trained with other settings than the config's); todo."""
    test_accuracy: float | None
    """Percent."""
    input: str | None
    """Where x_j comes from now; None where it cannot be had yet."""
    store_bytes: int
    """Bytes on disk of the stage's output, x_{j+1}, over all splits."""
    reason: str
    """Why it is in this state, or what to type next."""


def status(run: RunFolder, *, accepting: bool = False) -> list[StageStatus]:
    """The state of every stage under the present config; `accepting`, of the stages that --accept-stale goes on from.

    Then a stage that stands in for the config's is stale, and the others are as they are with it before them.
    """
    seen = accept_stale(run) if accepting else run
    return [
        _of_stand_in(run, seen, j) if seen.is_stand_in(j) else _stage_status(seen, j) for j in range(len(run.stages))
    ]


def refit_status(refit: Refit) -> StageStatus:
    """State of a refit of the last stage."""
    return _stage_status(refit.run.following([], frees=False), len(refit.run.stages) - 1)


def next_action(run: RunFolder, rows: Sequence[StageStatus], *, accepting: bool) -> str:
    """How to look at stale stages, or to go on from them; "" where none is stale or none can be gone on from."""
    if accepting or not any(row.state == "stale" for row in rows) or not accept_stale(run).accepted:
        return ""
    return (
        f"next: {run.command('run')} trains what is stale anew; "
        f"{run.command('status')} --accept-stale shows what can be gone on from as it is"
    )


def _of_stand_in(run: RunFolder, seen: RunFolder, j: int) -> StageStatus:
    """Of a stage that stands in, and of what the present settings have made of it so far."""
    record, (accepted,) = seen.stages[j].record, [one for one in seen.accepted if one.stage == j]
    assert record is not None, "it stands in"
    reason = f"accepted: {'; '.join(accepted.differences)}"
    anew = accept_stale(run, j)
    if position := read_position(anew.stages[j]):
        reason += f"; anew {_progress(anew, j, position)}"
    return StageStatus(j, "stale", record.test_accuracy, _input(seen, j), _stored(seen, j), reason)


def _stage_status(run: RunFolder, j: int) -> StageStatus:
    folder = run.stages[j]
    position = read_position(folder)  # before the record, which comes before the checkpoints go
    record = folder.record
    if record is not None and folder.missing:
        state = "damaged"
        reason = f"{', '.join(folder.missing)} missing: delete {folder.path} and {run.train_command(j)}"
    elif record is not None:
        unwritten, unscaled = output_is_due(run, j), scale_is_due(run, j)
        state = "trained" if unwritten or unscaled else "done"
        encoding = run.config.for_stage(j).store.encoding
        what = f"x_{j + 1} not written as {encoding}" if unwritten else f"no scale for x_{j + 1} as {encoding}"
        what = f"{what}: {run.train_command(j)}"
        reason = (run.lost(j + 1) or what) if state == "trained" else _of_done(run, j)
    elif position is not None:
        state, reason = "partial", _progress(run, j, position)
    elif changed := run.changes(j):
        state, reason = "stale", changed
    else:
        state = "todo"
        reason = run.train_command(j) if _input(run, j) else f"needs stage {j - 1}"
        reason = "; ".join(filter(None, [_compression(run, j), reason]))
    if before := [one for one in run.accepted if one.stage < j]:
        reason = f"{reason}; on stale {describe_accepted(before)}".removeprefix("; ")
    return StageStatus(j, state, record.test_accuracy if record else None, _input(run, j), _stored(run, j), reason)


def _input(run: RunFolder, j: int) -> str | None:
    try:
        return describe_input(run.anchor(j), j)
    except RefusedError:
        return None


def _stored(run: RunFolder, j: int) -> int:
    nbytes = 0
    for split in run.splits:
        with suppress(StoreError, OSError):  # `all_stored` says so
            nbytes += run.stored_bytes(j + 1, split)
    return nbytes


def _progress(run: RunFolder, j: int, position: Position) -> str:
    """How far the training of a stage is, and what goes on with it."""
    done = f"{position.epochs} of {stage_epochs(run.config, run.shapes[j])} epochs"
    if position.consumed:
        done += f" and {position.consumed} images"
    if position.kept:
        done += f", {_compression(run, j)}"
    return f"{done}: {run.train_command(j)}"


def _compression(run: RunFolder, j: int) -> str:
    """What compression leaves of a block, as in "128 -> 64 filters"; "" where it cuts none."""
    shape = run.shapes[j]
    return "" if shape.cut_from is None else f"{shape.cut_from} -> {shape.out_channels} filters"


def _of_done(run: RunFolder, j: int) -> str:
    """What a reader of the table should know of a finished stage."""
    is_gone = j + 1 < len(run.stages) and run.config.keeps(j + 1) and not run.is_stored(j + 1)
    deleted = f"x_{j + 1} was deleted: it is replayed where it is read" if is_gone else ""
    notes = [_compression(run, j), _frozen(run, j), run.lost(j + 1) or deleted]
    return "; ".join(filter(None, notes))


def _frozen(run: RunFolder, j: int) -> str:
    """Of its augmentation: a cache freezes it."""
    augment = run.config.augment
    if j == 0 or augment.policy == "recompute":
        return "fresh augmentation" if augment.is_random else ""
    if augment.policy == "none":
        return "trained on one frozen rendering"
    if augment.policy == "canvas":
        at = augment.last_anchor(j)
        return "trained on windows of frozen canvases" + (f" of x_{at}" if at < j else "")
    return f"trained on {augment.views} frozen views"


@dataclass(frozen=True)
class OtherBranch:
    """A trained stage that is not among the rows, whose folder is still there."""

    j: int
    """Index of the stage."""
    path: str
    """Its folder."""
    test_accuracy: float
    """Percent."""
    nbytes: int
    """Of its files, stores included."""
    changes: list[str]
    """What it was trained with and what the config has."""


def other_branches(run: RunFolder, *, accepting: bool = False) -> list[OtherBranch]:
    """Stages trained with other settings; `accepting`, but for those that --accept-stale goes on from."""
    views = (run, *([accept_stale(run)] if accepting else []))
    shown = {stage.key for seen in views for stage in seen.stages}
    shown |= {refit.folder.key for seen in views for refit in find_refits(seen)}
    records = read_records(run.path / "stages")
    found = []
    for record in sorted(records.values(), key=lambda record: (record.j, record.key)):
        if record.j < len(run.stages) and record.key not in shown:
            folder = stage_path(run.path / "stages", record.j, record.key)
            changed = changes(record.j, record.fields, run.fields, records)
            found.append(OtherBranch(record.j, str(folder), record.test_accuracy, folder_bytes(folder), changed))
    return found


@dataclass(frozen=True)
class Stored:
    """All stores of a run folder, of whatever branch."""

    nbytes: int
    """On disk, of those whose manifest can be read."""
    unreadable: list[str]
    """What is wrong with the others, a line each."""


def all_stored(run: RunFolder) -> Stored:
    """What the committed stores of the folder take."""
    nbytes, unreadable = 0, []
    for store in run.committed_stores():
        try:
            run.check_unlinked(store)
            nbytes += store_bytes(store)
        except (CorruptDataError, StoreError, OSError) as error:
            unreadable.append(f"not counted: {first_line(error)}")
    return Stored(nbytes, unreadable)
