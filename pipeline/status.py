"""What of a run is done, what is not, and why."""

from dataclasses import dataclass

from pipeline.acceptance import accept_stale, describe_accepted
from pipeline.branches import changes, read_records
from pipeline.calibration import scale_is_due
from pipeline.checkpoint import read_position
from pipeline.disk import folder_bytes
from pipeline.errors import RefusedError
from pipeline.feed import describe_input
from pipeline.progress import size
from pipeline.record import stage_path
from pipeline.runfolder import RunFolder
from pipeline.writeback import output_is_due


@dataclass(frozen=True)
class StageStatus:
    """One row of `cascade status`."""

    j: int
    """Index of the stage."""
    state: str
    """done; trained (its output is still to be written); partial (some epochs); stale (trained with other settings
    than the config's); todo."""
    test_accuracy: float | None
    """Percent."""
    input: str | None
    """Where x_j comes from now; None where it cannot be had yet."""
    store_bytes: int
    """Bytes on disk of the stage's output, x_{j+1}, over all splits."""
    reason: str
    """Why it is in this state, or what to type next."""


def status(run: RunFolder, *, accepting: bool = False) -> list[StageStatus]:
    """The state of every stage under the present config; `accepting`, as `train-stage --accept-stale` would find it."""
    return [_stage_status(accept_stale(run, j) if accepting else run, j) for j in range(len(run.stages))]


def _stage_status(run: RunFolder, j: int) -> StageStatus:
    folder = run.stages[j]
    position = read_position(folder)  # before the record, which comes before the checkpoints go
    record = folder.record
    try:
        stage_input = describe_input(run.anchor(j), j)
    except RefusedError:
        stage_input = None
    epochs = run.config.for_stage(j).train.epochs
    if record is not None:
        unwritten, unscaled = output_is_due(run, j), scale_is_due(run, j)
        state = "trained" if unwritten or unscaled else "done"
        encoding = run.config.for_stage(j).store.encoding
        what = f"x_{j + 1} not written as {encoding}" if unwritten else f"no scale for x_{j + 1} as {encoding}"
        reason = f"{what}: {run.command(f'train-stage --j {j}')}" if state == "trained" else _of_done(run, j)
    elif position is not None:
        done = f"{position.epochs} of {epochs} epochs"
        if position.consumed:
            done += f" and {position.consumed} images"
        state, reason = "partial", f"{done}: {run.command(f'train-stage --j {j}')}"
    elif changed := run.changes(j):
        state, reason = "stale", changed
    else:
        state = "todo"
        reason = run.command(f"train-stage --j {j}") if stage_input else f"needs stage {j - 1}"
    if run.accepted:
        reason = f"{reason}; on stale {describe_accepted(run.accepted)}".removeprefix("; ")
    stored = sum(run.stored_bytes(j + 1, split) for split in run.splits)
    return StageStatus(j, state, record.test_accuracy if record else None, stage_input, stored, reason)


def _of_done(run: RunFolder, j: int) -> str:
    """What a reader of the table should know of a finished stage."""
    was_deleted = j + 1 < len(run.stages) and run.config.keeps(j + 1) and not run.is_stored(j + 1)
    notes = [_frozen(run, j), f"x_{j + 1} was deleted: it is replayed where it is read" if was_deleted else ""]
    return "; ".join(filter(None, notes))


def _frozen(run: RunFolder, j: int) -> str:
    """Of its augmentation: a cache freezes it."""
    augment = run.config.augment
    if j == 0 or augment.policy == "recompute":
        return "fresh augmentation" if augment.crop or augment.padding or augment.flip else ""
    if augment.policy == "none":
        return "trained on one frozen rendering"
    if augment.policy == "canvas":
        at = augment.last_anchor(j)
        return "trained on windows of frozen canvases" + (f" of x_{at}" if at < j else "")
    return f"trained on {augment.views} frozen views"


def other_branch_notes(run: RunFolder) -> list[str]:
    """A line for each stage trained with other settings whose folder is still there."""
    notes = []
    records = read_records(run.path / "stages")
    for record in sorted(records.values(), key=lambda record: record.j):
        if record.j < len(run.stages) and record.key != run.stages[record.j].key:
            changed = "; ".join(changes(record.j, record.fields, run.fields, records))
            folder = stage_path(run.path / "stages", record.j, record.key)
            accuracy, nbytes = f"test {record.test_accuracy:.2f}%", size(folder_bytes(folder))
            notes.append(f"stage {record.j} also in {folder}, {accuracy}, {nbytes}: {changed}")
    return notes
