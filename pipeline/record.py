"""The record of a trained stage, and the folder of a stage under one key."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pipeline.errors import CorruptDataError
from pipeline.experiments.places import makes_again
from pipeline.links import check_unlinked
from pipeline.sealed import read_sealed

KEY_DIGITS = 8


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A stage that stood in for one with the present settings, because of --accept-stale."""

    stage: int
    """Its index."""
    key: str
    """The key it was trained under."""
    differences: list[str]
    """What it was trained with and what the config had, as in "train.lr 0.1 -> 0.05"."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Where the training of a stage began, or was taken up on another machine."""

    machine: dict[str, Any]
    """What of the machine can move the last bits of a result."""
    epoch: int
    """The epoch, from 0."""
    consumed: int
    """Samples of it that were behind."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The point of least training risk, where a stage keeps that (`train.keep`)."""

    epochs: Annotated[int, Meta(ge=0)]
    """After so many; 0 is the start."""
    risk: float
    """Mean cross entropy over all training samples."""
    accuracy: float
    """Percent, over the same."""
    start_risk: float
    """The risk that the stage started with."""


class StageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a trained stage."""

    j: Annotated[int, Meta(ge=0)]
    """Index of the stage."""
    key: str
    """Hash of `fields`."""
    fields: dict[str, Any]
    """Everything that determined the result."""
    accepted: list[Accepted] = []
    """The stages before it that were accepted though their settings were not those of its config."""
    parameters: dict[str, int]
    """Parameters of block and head."""
    train_accuracy: float
    """Percent, over the last epoch's augmented samples; of the best point over all training samples."""
    validation_accuracy: float | None
    """Percent, of the weights that are kept; None where nothing is held out."""
    best: Kept | None = None
    """The best point, if that is what is kept; None for the last."""
    test_accuracy: float
    """Percent."""
    balanced_test_accuracy: float
    """Percent, the mean of the classes' accuracies."""
    seconds: float
    """Time of its training, over all sessions."""
    peak_memory_bytes: int
    """Of the device; on the CPU, of the process."""
    device: str
    """What it was trained on."""
    machine: dict[str, Any]
    """Versions, precision and thread count where it ended, for whoever compares."""
    sessions: list[Session]
    """All machines that worked on it: one, unless another took it up."""
    content: dict[str, str]
    """Content hashes of block, head and test_logits, so that no other file stands in for one of them."""
    metrics: str
    """SHA-256 of metrics.jsonl, likewise."""
    kept: list[int] = []
    """The filters that compression left of the block that was trained, by their index; none where it cut none."""

    @property
    def epochs(self) -> int:
        """That it was trained, 0 where its fields do not say."""
        epochs, tuning = self.fields.get("train.epochs"), self.fields.get("compress.epochs", 0)
        return epochs + tuning if isinstance(epochs, int) and isinstance(tuning, int) else 0


def stage_path(stages: Path, j: int, key: str) -> Path:
    """The folder of stage j under a key."""
    return stages / f"{j}-{key[:KEY_DIGITS]}"


def read_record(folder: Path) -> StageRecord | None:
    """The record of the stage in `folder`, or None where it is not finished.

    Raises CorruptDataError, also where the folder, or the one that it is in, is a link.
    """
    check_unlinked(folder, below=folder.parent.parent)
    remedy = f"move {folder} away and {makes_again(folder)}"
    return read_sealed(folder / "stage.json", StageRecord, remedy=remedy)


def read_own_record(folder: Path) -> StageRecord | None:
    """The same, and CorruptDataError where it is the record of another stage than the folder's name says."""
    record = read_record(folder)
    if record is not None and stage_path(folder.parent, record.j, record.key) != folder:
        raise foreign_record(folder, record)
    return record


def foreign_record(folder: Path, record: StageRecord) -> CorruptDataError:
    """Of a record in the folder of another stage."""
    return CorruptDataError(
        f"{folder / 'stage.json'} is the record of another stage, {record.j}-{record.key[:KEY_DIGITS]}\n"
        f"next: move {folder} away and {makes_again(folder)}"
    )
