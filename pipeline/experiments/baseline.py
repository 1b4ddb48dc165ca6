"""`cascade baseline`: the network trained end to end, beside what its stages came to."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from pipeline.experiments.end_to_end import NAME, end_to_end
from pipeline.experiments.training import train_beside
from pipeline.lock import is_writable, lock_folder
from pipeline.progress import Reporter, duration, size
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder
from pipeline.stopping import never
from pipeline.tables import as_json, as_text, new_table


@dataclass(frozen=True)
class Trained:
    """One row: a stage, or the network end to end."""

    what: str
    test_accuracy: float
    """Percent."""
    validation_accuracy: float | None
    """Percent; None where nothing is held out."""
    train_accuracy: float
    """Percent, over the last epoch's augmented samples; of the best point over all training samples."""
    epochs: int
    parameters: int
    """Of what was trained at once, the head included."""
    seconds: float
    peak_memory_bytes: int
    """Of the device; on the CPU, of the process."""
    device: str


def train_baseline(
    run: RunFolder,
    device: torch.device,
    report: Reporter,
    *,
    strict: bool = False,
    should_stop: Callable[[], bool] = never,
) -> StageRecord:
    """Train all blocks and the head at once, or go on where that stopped; its record. One that is there is shown from a
    folder that cannot be written too.

    Raises like `train_beside`, and LockedError.
    """
    if not is_writable(run.path) and (record := end_to_end(run).folder.record) is not None:
        return record
    with lock_folder(run.path, "training end to end"):
        problem = end_to_end(run)
        if problem.folder.record is not None:
            report.say(f"{NAME}  done already")
        run.check_x_0(run.splits)
        return train_beside(run, problem, device, report, strict=strict, should_stop=should_stop)


def compared(run: RunFolder, record: StageRecord) -> list[Trained]:
    """The trained stages of the run, up to the first that is not, and the network end to end."""
    rows = []
    for stage in run.stages:
        if (own := stage.record) is None:
            break
        rows.append(_row(f"stage {stage.j}", own))
    return [*rows, _row(NAME, record)]


def _row(what: str, record: StageRecord) -> Trained:
    return Trained(
        what=what,
        test_accuracy=record.test_accuracy,
        validation_accuracy=record.validation_accuracy,
        train_accuracy=record.train_accuracy,
        epochs=record.epochs,
        parameters=sum(record.parameters.values()),
        seconds=record.seconds,
        peak_memory_bytes=record.peak_memory_bytes,
        device=record.device,
    )


def baseline_json(rows: list[Trained]) -> str:
    """`{"rows": [{"what", "test_accuracy", ...}]}`, the stages and then "end to end"."""
    return as_json({"rows": [asdict(row) for row in rows]})


def baseline_table(rows: list[Trained]) -> str:
    """A row each."""
    table = new_table("trained", "test %", "validation %", "train %", "epochs", "parameters", "time", "device")
    for row in rows:
        table.add_row(
            row.what,
            f"{row.test_accuracy:.2f}",
            "-" if row.validation_accuracy is None else f"{row.validation_accuracy:.2f}",
            f"{row.train_accuracy:.2f}",
            str(row.epochs),
            f"{row.parameters:,}",
            duration(row.seconds),
            size(row.peak_memory_bytes),
        )
    return as_text(table)
