"""What is recorded of each epoch."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from cache import CorruptStoreError
from pipeline.errors import CorruptDataError
from pipeline.links import read_file
from pipeline.runfolder import StageFolder
from pipeline.sealed import SealError, seal_line, unseal


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


def read_metrics(folder: StageFolder, epochs: int | None = None) -> list[EpochRecord]:
    """The records of a stage's epochs so far, or of its first `epochs`; none where it has not begun.

    Raises CorruptDataError, also where a finished stage lacks some.
    """
    at_least = folder.record.fields["train.epochs"] if folder.record else 0
    try:
        return read_metrics_file(folder.metrics, epochs, at_least=at_least)
    except FileNotFoundError:
        return []
    except SealError as error:
        raise CorruptDataError(
            f"{folder.metrics} is damaged: {error}\nnext: delete {folder.path} and train the stage again"
        ) from error


def read_metrics_file(path: Path, epochs: int | None = None, *, at_least: int = 0) -> list[EpochRecord]:
    """The records of a file, or its first `epochs`. Raises SealError where one is damaged or there are less."""
    try:
        lines = read_file(path).splitlines(keepends=True)
    except CorruptStoreError as error:
        raise SealError(str(error)) from error
    if len(lines) < at_least:
        raise SealError(f"it holds {len(lines)} of {at_least} epochs")
    return [unseal(line, EpochRecord) for line in lines[:epochs]]
