"""What is recorded of each epoch."""

import msgspec

from pipeline.errors import CorruptDataError
from pipeline.runfolder import StageFolder


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
    """Trained, over the epoch, or what was left of it, without its validation."""
    wait_share: float
    """Share of that time spent waiting for stored data, 0..1."""
    wait_by_cause: dict[str, float] = {}
    """The same by cause: disk, decode, gather, copy. Threads did all but the last meanwhile: their time in each."""
    peak_memory_bytes: int
    """Of the device; on the CPU, of the process."""
    seconds: float
    """Of the epoch, validation included."""


def read_metrics(folder: StageFolder) -> list[EpochRecord]:
    """The records of a stage's epochs so far, none where it has not begun. Raises CorruptDataError."""
    try:
        lines = folder.metrics.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=EpochRecord) for line in lines]
    except FileNotFoundError:
        return []
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptDataError(
            f"{folder.metrics} is damaged: {error}\nnext: delete {folder.path} and train the stage again"
        ) from error
