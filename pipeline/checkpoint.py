"""A stage between two steps: what it is then, in memory and on disk.

Two checkpoints are kept while a stage trains, so that a damaged one costs some steps and not the stage. The new one is
whole and durable beside them before the older goes.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from cache.files import sync, write_synced
from pipeline.errors import CorruptDataError
from pipeline.experiments.places import makes_again
from pipeline.learner import Learner
from pipeline.metrics import EpochRecord, metrics_content, read_metrics
from pipeline.progress import Reporter
from pipeline.record import Kept, Session
from pipeline.stage_folder import StageFolder
from pipeline.weights import load_tensors, module_tensors, pack_tensors, read_metadata

EPOCH = "epoch."
BEST = "best."
POSITION = "position"


@dataclass
class Progress:
    """An epoch so far. Its sums stay on the device: reading a number back would make the host wait at every step."""

    consumed: int
    """Samples of the epoch's order that are behind."""
    seconds: Tensor
    """That they took, up to the last checkpoint. On the host."""
    seen: Tensor
    """Samples trained on."""
    sound: Tensor
    """Of them, those before the first batch whose loss was no number."""
    loss: Tensor
    """Sum of their cross entropies."""
    correct: Tensor
    """Of them, those that the head got right."""

    @classmethod
    def fresh(cls, device: torch.device) -> "Progress":
        """The beginning of an epoch."""
        dtype = torch.float32 if device.type == "mps" else torch.float64  # which mps does not have
        sums = (torch.zeros((), dtype=dtype, device=device) for _ in range(4))
        return cls(0, torch.zeros((), dtype=torch.float64), *sums)

    def tensors(self) -> dict[str, Tensor]:
        """All but `consumed`, by name."""
        return {EPOCH + name: getattr(self, name) for name in ("seconds", "seen", "sound", "loss", "correct")}


@dataclass
class Best:
    """The point of least training risk so far."""

    point: Kept
    tensors: dict[str, Tensor]
    """Weights and buffers of block and head there, on the host."""


@dataclass
class StageState:
    """How far a stage is, beside its weights."""

    epochs: list[EpochRecord]
    """Of whole epochs."""
    under_way: Progress
    """The epoch after them."""
    sessions: list[Session]
    """The machines so far; none where it has not begun."""
    best: Best | None = None
    """Where the best point is to be kept, and one was looked at."""

    @property
    def has_begun(self) -> bool:
        return bool(self.epochs or self.under_way.consumed)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says of itself in its metadata."""

    key: str
    """Of its stage."""
    epochs: Annotated[int, Meta(ge=0)]
    """Whole ones."""
    consumed: Annotated[int, Meta(ge=0)]
    """Samples of the next one that are behind."""
    metrics: str
    """SHA-256 of the lines of the whole epochs in metrics.jsonl."""
    sessions: list[Session]
    """The machines so far."""
    kept: list[Annotated[int, Meta(ge=0)]] = []
    """The filters that compression left of the block; none where it has not come yet."""
    best: Kept | None = None
    """The best point, whose tensors are there too."""


def save_checkpoint(folder: StageFolder, learner: Learner, state: StageState) -> None:
    """Keep the state of a stage, and the checkpoint before this one beside it."""
    progress = state.under_way
    position = Position(
        key=folder.key,
        epochs=len(state.epochs),
        consumed=progress.consumed,
        metrics=metrics_content(state.epochs),
        sessions=state.sessions,
        kept=learner.kept,
        best=state.best.point if state.best else None,
    )
    best = {BEST + name: tensor for name, tensor in state.best.tensors.items()} if state.best else {}
    tensors = {**learner.tensors(), **best, **(progress.tensors() if progress.consumed else {})}
    data, _ = pack_tensors(tensors, {POSITION: msgspec.json.encode(position).decode()})
    new = _new(folder)
    try:
        write_synced(new, data)
    except OSError:
        new.unlink(missing_ok=True)  # it would stay on the disk that is full
        raise
    if folder.checkpoint.exists():
        os.replace(folder.checkpoint, folder.previous_checkpoint)
    os.replace(new, folder.checkpoint)
    sync(folder.path)


def load_checkpoint(
    folder: StageFolder, learner: Learner, report: Reporter, *, batch_size: int, epoch_samples: int
) -> StageState:
    """Put the newest checkpoint that is whole into the learner; where there is none the stage has not begun.

    A damaged one is named and removed if the one before it can be used. Raises CorruptDataError where none can.
    """

    def restored(path: Path) -> StageState:
        return _restore(path, folder, learner, batch_size=batch_size, epoch_samples=epoch_samples)

    newest, older = folder.checkpoint, folder.previous_checkpoint
    if not newest.exists():  # killed between two renames, or never begun
        return restored(older) if older.exists() else StageState([], Progress.fresh(learner.device), [])
    try:
        return restored(newest)
    except CorruptDataError as error:
        if not older.exists():
            raise
        damage = str(error).splitlines()[0]
    state = restored(older)
    newest.unlink()  # the next save would put it in the place of the older
    report.say(f"{damage}\nremoved; going on from the checkpoint before it")
    return state


def read_position(folder: StageFolder) -> Position | None:
    """How far a stage is by its newest checkpoint that can be read, None where there is none. Never waits."""
    for path in (folder.checkpoint, folder.previous_checkpoint):  # between two renames there is only the second
        if position := _position(read_metadata(path) or {}):
            return position
    return None


def sweep(folder: StageFolder) -> None:
    """Remove what a finished stage needs no more: checkpoints, and the record of a fault that it got over."""
    for path in (_new(folder), folder.previous_checkpoint, folder.checkpoint, folder.fault):
        path.unlink(missing_ok=True)


def _restore(path: Path, folder: StageFolder, learner: Learner, *, batch_size: int, epoch_samples: int) -> StageState:
    tensors, metadata = load_tensors(path)
    sums = {name: tensor for name, tensor in tensors.items() if name.startswith(EPOCH)}
    best = {name.removeprefix(BEST): tensor for name, tensor in tensors.items() if name.startswith(BEST)}
    position, progress = _position(metadata), Progress.fresh(learner.device)
    records = read_metrics(folder, position.epochs) if position else []  # lines may be ahead, never behind
    fits = position is not None and (position.key, position.metrics) == (folder.key, metrics_content(records))
    fits = fits and _best_fits(position, best, learner)
    if position is None or not fits or not _sums_fit(position, sums, progress, batch_size, epoch_samples):
        raise CorruptDataError(
            f"{path} and {folder.metrics} do not belong together, or not to this stage\n"
            f"next: delete {folder.path} and {makes_again(folder.path)}"
        )
    if position.kept and not learner.kept:
        learner.keep(position.kept)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith((EPOCH, BEST))}
    learner.restore(own, path)
    progress.consumed = position.consumed
    for name, tensor in sums.items():
        progress.tensors()[name].copy_(tensor)
    return StageState(records, progress, position.sessions, Best(position.best, best) if position.best else None)


def _best_fits(position: Position | None, best: dict[str, Tensor], learner: Learner) -> bool:
    """Whether the tensors of the best point are there if, and only if, there is one, and are of this network."""
    if position is None or position.best is None:
        return not best
    own = module_tensors(block=learner.block, head=learner.head)
    shapes = {name: tensor.shape for name, tensor in own.items()}
    return {name: tensor.shape for name, tensor in best.items()} == shapes and position.best.epochs <= position.epochs


def _sums_fit(
    position: Position, sums: dict[str, Tensor], progress: Progress, batch_size: int, epoch_samples: int
) -> bool:
    """Whether a checkpoint's position is one between two steps, and its sums are of that position."""
    consumed = position.consumed
    if not consumed:
        return position.epochs > 0 and not sums
    is_between = consumed == epoch_samples or (consumed < epoch_samples and consumed % batch_size == 0)
    are_numbers = sums.keys() == progress.tensors().keys() and all(tensor.shape == () for tensor in sums.values())
    return is_between and are_numbers and sums[f"{EPOCH}seen"].item() == sums[f"{EPOCH}sound"].item() == consumed


def _position(metadata: dict[str, str]) -> Position | None:
    try:
        return msgspec.json.decode(metadata.get(POSITION, ""), type=Position)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _new(folder: StageFolder) -> Path:
    return folder.checkpoint.with_name(f".{folder.checkpoint.name}.new")
