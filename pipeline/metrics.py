"""What is recorded of each epoch."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cache import CorruptStoreError
from pipeline.errors import CorruptDataError
from pipeline.experiments.places import makes_again
from pipeline.links import read_file
from pipeline.record import StageRecord
from pipeline.sealed import SealError, seal_line, unseal
from pipeline.stage_folder import StageFolder


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One line of metrics.jsonl."""

    epoch: int
    """From 0."""
    lr: float
    """Learning rate of the epoch."""
    train_loss: float
    """Mean cross entropy over the epoch's augmented samples."""
    train_accuracy: float
    """Percent, over the same."""
    validation_accuracy: float | None
    """Percent, after the epoch; None where nothing is held out."""
    train_risk: float | None = None
    """Mean cross entropy over all training samples after the epoch; None where the last weights are kept anyway."""
    images_per_second: float
    """Trained, over the epoch in all sessions."""
    wait_share: float
    """Share of its training that was spent waiting for stored data, in the session that ended it, 0..1."""
    wait_by_cause: dict[str, float] = {}
    """The same by cause: disk, decode, gather, copy. Threads did all but the last meanwhile: their time in each."""
    peak_memory_bytes: int
    """Of the device; on the CPU, of the process."""
    seconds: float
    """Of the epoch, validation included."""


def metrics_lines(records: Sequence[EpochRecord]) -> bytes:
    """The records of a stage's epochs as they stand in its file."""
    return b"".join(map(seal_line, records))


def metrics_content(records: Sequence[EpochRecord]) -> str:
    """SHA-256 of the lines: what a checkpoint and the stage's record know the file by."""
    return hashlib.sha256(metrics_lines(records)).hexdigest()


def read_metrics(folder: StageFolder, epochs: int | None = None) -> list[EpochRecord]:
    """The records of a stage's epochs so far, or of its first `epochs`; none where it has not begun.

    Raises CorruptDataError, also where a finished stage lacks some, or has those of another.
    """
    try:
        return read_metrics_file(folder.metrics, epochs, ended=folder.record)
    except FileNotFoundError:
        return []
    except SealError as error:
        raise CorruptDataError(
            f"{folder.metrics} is damaged: {error}\nnext: delete {folder.path} and {makes_again(folder.path)}"
        ) from error


def read_metrics_file(path: Path, epochs: int | None = None, *, ended: StageRecord | None = None) -> list[EpochRecord]:
    """The records of a file, or its first `epochs`.

    Raises SealError where one is damaged, or they are less than, or not, those that a stage `ended` with.
    """
    try:
        data = read_file(path)
    except CorruptStoreError as error:
        raise SealError(str(error)) from error
    lines = data.splitlines(keepends=True)
    if ended and len(lines) < ended.epochs:
        raise SealError(f"it holds {len(lines)} of {ended.epochs} epochs")
    records = [unseal(line, EpochRecord) for line in lines[:epochs]]
    if ended and ended.metrics != hashlib.sha256(data).hexdigest():
        raise SealError("it is whole, but not the file that the stage's record names")
    return records
