"""Linear transfer: how well features of every depth tell apart the classes of another data set (App. C.3).

transfer/KEY/record.json                  what came of it, a row for each depth, written after each
transfer/KEY/features/x_J-KEY.PART.safetensors   averages of x_J, until the command ends
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from cache import make_folder, remove_folder
from pipeline.bad_images import printable
from pipeline.config import budget_bytes
from pipeline.disk import described_room, room
from pipeline.errors import ConfigError, CorruptDataError, DiskError, RefusedError
from pipeline.experiments.features import Depths, channels_of, damaged, decoded
from pipeline.experiments.folds import COMPONENTS, Fold, fold, training_rows
from pipeline.experiments.places import FEATURES, TRANSFER, TRANSFER_RECORD
from pipeline.experiments.pool import Pool, open_pool, with_enough, without
from pipeline.experiments.statistics import Mean, mean_of
from pipeline.lock import Lock, is_writable, lock_folder
from pipeline.ondevice import limit_device
from pipeline.paths import matching
from pipeline.progress import Reporter, duration, size
from pipeline.record import KEY_DIGITS
from pipeline.runfolder import RunFolder
from pipeline.sealed import read_sealed, write_sealed
from pipeline.stopping import check_stop, never
from pipeline.weights import load_tensors, save_tensors

ALGORITHM = 1
"""Raised by hand when a change of the code changes what comes out."""
PART = 1024
"""Images whose features are in a file, at least: what an interruption loses."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A depth."""

    j: int
    """Of x_j."""
    key: str
    """Of the blocks that made it."""
    features: int
    """Channels of x_j."""
    components: int
    """Of the PCA."""
    accuracy: Mean
    """Percent, the mean of the classes' accuracies; over splits."""
    by_split: list[float]
    """The same of each."""
    converged: int
    """Splits in which SAGA did within scikit-learn's 100 passes."""
    seconds: float
    """Of all fits; features not counted."""


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is left out."""

    name: str
    """Its file, or what else to call it."""
    reason: str
    """What is wrong with it."""


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """transfer/KEY/record.json."""

    key: str
    """Hash of the images and of what is done with them."""
    data: str
    """Address of the data set."""
    classes: list[str]
    """Told apart."""
    left_out: list[str]
    """Classes of too few images."""
    images: int
    per_class: int
    """Images of each class that are trained on; all others test."""
    splits: int
    seed: int
    """Of the splits, PCA and SAGA."""
    device: str
    """That took the images through the network last."""
    versions: dict[str, str]
    rows: list[Row]
    """Of the present network, and of others before it."""
    skipped: list[Skipped] = []
    """Damaged images that are left out."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked for."""

    data: str
    """Address of a data set."""
    per_class: int
    splits: int
    seed: int
    skip_small: bool
    """Leave out classes of too few images."""
    skip_bad: bool
    """Leave out damaged images, for which all are decoded once more."""


def transfer(
    run: RunFolder,
    asked: Settings,
    depths: Sequence[int],
    device: torch.device,
    report: Reporter,
    *,
    should_stop: Callable[[], bool] = never,
) -> Transfer:
    """Score x_j of each depth, by default of all that are trained; what is recorded already is not done again.

    The record that comes back has the rows that were asked for.

    Raises ConfigError, RefusedError where a block is not trained, CorruptDataError of an image, DiskError, Stopped.
    """
    depths = _checked(run, depths)
    whole = open_pool(asked.data)
    bad = damaged(run, whole, report, should_stop=should_stop) if asked.skip_bad else {}
    pool, left_out = with_enough(without(whole, bad), asked.per_class, skip_small=asked.skip_small)
    for note in pool.notes:
        report.say(printable(note))
    skipped = [Skipped(name=printable(whole.name(row)), reason=reason) for row, reason in bad.items()]
    record = _empty(pool, asked, left_out, skipped, device)
    place = run.path / TRANSFER / record.key[:KEY_DIGITS]
    keys = {key_of_depth(run, j) for j in depths}
    if not is_writable(run.path) and (known := _recorded(run, place, record)):
        rows = [row for row in known.rows if row.key in keys]
        if len(rows) == len(depths):
            return msgspec.structs.replace(known, rows=rows)
    with lock_folder(run.path, f"transfer to {asked.data}") as lock:
        limit_device(run.config, device)
        known = _recorded(run, place, record)
        rows = known.rows if known else []
        work = _Work(run, pool, record, place, report, lock, should_stop)
        left = [j for j in depths if not any(row.key == key_of_depth(run, j) for row in rows)]
        if left:
            report.say(
                f"{len(pool.labels):,} images of {len(pool.classes)} classes, {asked.per_class} of each to train on"
            )
            work.take_features(left, device)
        for j in left:
            rows = [*(row for row in rows if row.key != key_of_depth(run, j)), work.row(j)]
            rows.sort(key=lambda row: row.j)
            write_sealed(place / TRANSFER_RECORD, msgspec.structs.replace(record, rows=rows))
        for j in depths:
            work.drop_features(j)
        if (place / FEATURES).is_dir() and not matching(place / FEATURES, "*"):
            remove_folder(place / FEATURES)
    found = known if known is not None and not left else record
    return msgspec.structs.replace(found, rows=[row for row in rows if row.key in keys])


def _recorded(run: RunFolder, place: Path, record: Transfer) -> Transfer | None:
    """What is recorded already of the same images and settings. Raises CorruptDataError."""
    run.check_unlinked(place / FEATURES)
    known = read_transfer(place / TRANSFER_RECORD)
    return known if known is not None and known.key == record.key else None


def _checked(run: RunFolder, depths: Sequence[int]) -> list[int]:
    """The depths in order; all that are trained, where none are named. Raises ConfigError, RefusedError."""
    stages = len(run.stages)
    if outside := [j for j in depths if not 0 <= j <= stages]:
        raise ConfigError(
            f"--j {outside[0]}: x_j has j from 0, the images, to {stages}, the last block's output\n"
            f"next: the same with one of them"
        )
    trained = 0
    while trained < stages and run.stages[trained].record is not None:
        trained += 1
    run.check_trained(0, max(depths, default=1))
    return sorted(set(depths)) or list(range(1, trained + 1))


def _empty(pool: Pool, asked: Settings, left_out: list[str], skipped: list[Skipped], device: torch.device) -> Transfer:
    import scipy
    import sklearn

    known = [ALGORITHM, pool.digest, asked.per_class, asked.splits, asked.seed, left_out, COMPONENTS]
    return Transfer(
        key=hashlib.sha256(msgspec.json.encode(known)).hexdigest(),
        data=asked.data,
        classes=list(pool.classes),
        left_out=left_out,
        images=len(pool.labels),
        per_class=asked.per_class,
        splits=asked.splits,
        seed=asked.seed,
        device=str(device),
        versions={"torch": str(torch.__version__), "scikit-learn": sklearn.__version__, "scipy": scipy.__version__},
        rows=[],
        skipped=skipped,
    )


def key_of_depth(run: RunFolder, j: int) -> str:
    """Hash of what determines x_j of an image: the block before it and all before that, and how it is rounded."""
    augment = run.config.augment
    canvas = [augment.padding, augment.cut_at] if augment.policy == "canvas" and j else []
    last = run.stages[j - 1].key if j else [run.info.digest, run.side]
    encoding = run.outline.encoding(j) if 0 < j < len(run.stages) else None
    return hashlib.sha256(msgspec.json.encode([j, last, encoding, canvas])).hexdigest()


def read_transfer(path: Path) -> Transfer | None:
    """A record; None where there is none. Raises CorruptDataError."""
    return read_sealed(path, Transfer, remedy=f"delete {path.parent}; the same cascade transfer makes it again")


class _Work:
    """Features and fits of one data set, in one folder."""

    def __init__(
        self,
        run: RunFolder,
        pool: Pool,
        record: Transfer,
        place: Path,
        report: Reporter,
        lock: Lock,
        should_stop: Callable[[], bool],
    ) -> None:
        self.run = run
        self.pool = pool
        self.record = record
        self.place = place
        self.report = report
        self.lock = lock
        self.should_stop = should_stop
        images, step = len(pool.labels), -(-PART // run.config.order.run) * run.config.order.run
        self.parts = [np.arange(first, min(first + step, images)) for first in range(0, images, step)]

    def take_features(self, depths: Sequence[int], device: torch.device) -> None:
        """Write the averages of x_j of all images; what is there and whole is kept."""
        due = [part for part in range(len(self.parts)) if any(self._read(j, part) is None for j in depths)]
        if not due:
            return
        self._check_room(depths, due)
        make_folder(self.place / FEATURES)
        network, done = Depths(self.run, depths, device), len(self.parts[0]) * (len(self.parts) - len(due))
        with self.report.task("features", len(self.pool.labels)) as task:
            for part in due:
                found: dict[int, list[torch.Tensor]] = {j: [] for j in depths}
                for images in decoded(self.run, self.pool, self.parts[part]):
                    check_stop(self.should_stop, "taking features")
                    for j, averages in network(images).items():
                        found[j].append(averages)
                    done += len(images)
                    task.update(done)
                for j in depths:
                    x = torch.cat(found[j])
                    self._check_finite(j, part, x)
                    save_tensors(self._path(j, part), {"x": x})

    def row(self, j: int) -> Row:
        """Fit and score x_j in every split."""
        began, folds = time.perf_counter(), []
        self.lock.says(f"transfer to {self.record.data}: fitting on x_{j}")
        parts = self._parts(j)
        with self.report.task(f"x_{j}", self.record.splits) as task:
            for split in range(self.record.splits):
                check_stop(self.should_stop, f"fitting on x_{j}")
                folds.append(self._fold(parts, split))
                task.update(split + 1)
        row = self._row(j, folds, time.perf_counter() - began)
        self.report.say(f"x_{j}: {row.accuracy}% in {duration(row.seconds)}")
        return row

    def drop_features(self, j: int) -> None:
        """Delete the averages of x_j."""
        for part in range(len(self.parts)):
            self._path(j, part).unlink(missing_ok=True)

    def _fold(self, parts: Callable[[], Iterator[NDArray[np.float32]]], split: int) -> Fold:
        record, labels = self.record, self.pool.labels
        chosen = training_rows(labels, record.per_class, seed=record.seed, split=split)
        return fold(parts, labels, chosen, state=(record.seed + split) % 2**32)

    def _row(self, j: int, folds: list[Fold], seconds: float) -> Row:
        return Row(
            j=j,
            key=key_of_depth(self.run, j),
            features=channels_of(self.run, j),
            components=folds[0].components,
            accuracy=mean_of([one.accuracy for one in folds]),
            by_split=[one.accuracy for one in folds],
            converged=sum(one.converged for one in folds),
            seconds=seconds,
        )

    def _parts(self, j: int) -> Callable[[], Iterator[NDArray[np.float32]]]:
        """The averages of x_j a file at a time; kept in memory where budget.host allows."""
        nbytes = 4 * len(self.pool.labels) * channels_of(self.run, j)

        def from_disk() -> Iterator[NDArray[np.float32]]:
            for part in range(len(self.parts)):
                x = self._read(j, part)
                if x is None:
                    raise CorruptDataError(
                        f"{self._path(j, part)} is damaged\nnext: the same command, which makes it again"
                    )
                yield x

        if nbytes > self.run.host_bytes // 2:
            return from_disk
        kept = list(from_disk())
        return lambda: iter(kept)

    def _path(self, j: int, part: int) -> Path:
        return self.place / FEATURES / f"x_{j}-{key_of_depth(self.run, j)[:KEY_DIGITS]}.{part:05}.safetensors"

    def _read(self, j: int, part: int) -> NDArray[np.float32] | None:
        """Averages of x_j, (n, C); None where they are not there, or damaged."""
        try:
            x = load_tensors(self._path(j, part))[0].get("x")
        except CorruptDataError:
            return None
        shape = (len(self.parts[part]), channels_of(self.run, j))
        return None if x is None or x.shape != shape else x.numpy()

    def _check_room(self, depths: Sequence[int], due: Sequence[int]) -> None:
        budget = budget_bytes(self.run.config.budget.disk)
        images = sum(len(self.parts[part]) for part in due)
        nbytes = 4 * images * sum(channels_of(self.run, j) for j in depths)
        if nbytes > room(self.run.path, budget):
            raise DiskError(
                f"features of {images:,} images need {size(nbytes)}, and {described_room(self.run.path, budget)}\n"
                f"next: make room, or take one depth at a time with --j"
            )

    def _check_finite(self, j: int, part: int, x: torch.Tensor) -> None:
        if not x.isfinite().all():
            row = int(self.parts[part][int((~x.isfinite().all(1)).nonzero()[0])])
            raise RefusedError(
                f"x_{j} of {self.pool.name(row)} is not finite\nnext: leave the image out, or --j of less depth"
            )
