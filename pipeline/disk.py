"""Room on the disk, asked for before it is needed."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cache import CodecName, chunk_samples, packed_share
from pipeline.data_info import X_0
from pipeline.errors import NoRoomError
from pipeline.experiments.places import sweep_of
from pipeline.progress import size

MARGIN = 1.1
"""Other samples may compress worse than the first: at most by a tenth, since they come in random order."""
SMALL_FILES = 12
"""Files and folders of a store beside its chunks of x, each of which takes a block."""


@dataclass(frozen=True)
class StoreSize:
    """What a store takes, as it is or once it is written."""

    nbytes: int
    """Of its files; of one to be written, of its chunks of x before compression, the last one of a view whole."""
    files: int
    """Files and folders; each takes part of a block of the file system more than its bytes."""
    rest: int = 0
    """Of a store to be written, bytes of its files beside x, as they count in a budget."""

    def __add__(self, other: "StoreSize") -> "StoreSize":
        return StoreSize(self.nbytes + other.nbytes, self.files + other.files, self.rest + other.rest)


NOTHING = StoreSize(0, 0)


def store_size(*, samples: int, views: int, sample_bytes: int, run: int) -> StoreSize:
    """The size of a store of `samples` samples, written in runs of `run`."""
    chunk = chunk_samples(run, sample_bytes)
    chunks = views * -(-samples // chunk)
    return StoreSize(chunks * chunk * sample_bytes, chunks + SMALL_FILES)


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write to the disk that a folder is on."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def room(run_folder: Path, budget: int | None) -> int:
    """Bytes that may still be written to a run folder: what its disk has free, of a `budget` what is left of it."""
    free = free_bytes(run_folder)
    return free if budget is None else max(min(free, budget - run_bytes(run_folder)), 0)


def budgeted_folder(run_folder: Path) -> Path:
    """The folder that a disk budget is of: the run folder, or that of the whole sweep where it is one of its seeds."""
    sweep = sweep_of(run_folder.resolve())
    shares = sweep is not None and (run_folder / X_0).resolve() == (sweep / X_0).resolve()
    return sweep if sweep is not None and shares else run_folder


def run_bytes(run_folder: Path) -> int:
    """Bytes of all files that a disk budget of a run folder is of, all seeds of a sweep together.

    x_0 is included, also where it is a link; other links are not followed.
    """
    folder = budgeted_folder(run_folder)
    x_0 = folder / X_0
    return folder_bytes(folder) + (folder_bytes(x_0.resolve()) if x_0.is_symlink() else 0)


def folder_size(path: Path) -> StoreSize:
    """What a folder takes, or a file; links are not followed, and what vanishes meanwhile takes nothing."""
    nbytes = files = 0
    is_folder = path.is_dir() and not path.is_symlink()
    for root, _, names in os.walk(path) if is_folder else [(str(path.parent), [], [path.name])]:
        files += is_folder
        for name in names:
            with suppress(FileNotFoundError, NotADirectoryError):
                nbytes += os.lstat(os.path.join(root, name)).st_size
                files += 1
    return StoreSize(nbytes, files)


def folder_bytes(path: Path) -> int:
    """Bytes of all files in a folder, or of a file; links are not followed."""
    return folder_size(path).nbytes


def check_room(
    what: str,
    folder: Path,
    needed: StoreSize,
    codec: Callable[[], CodecName],
    sample: Callable[[], NDArray[Any]],
    *,
    there: StoreSize = NOTHING,
    budget: int | None = None,
    known_share: Callable[[CodecName], float | None] = lambda _: None,
    remedy: Callable[[], str],
) -> None:
    """Raise NoRoomError where a run folder has no room for what is to be written there, of which `there` is already.

    Room is on its disk, where a file takes whole blocks, and, where there is one, in its `budget`, where it takes its
    bytes. Where the numbers fit as they are, nothing more is asked; else the codec leaves its `known_share` of them, or
    is tried on a sample.
    """
    blocks = max(needed.files - there.files, 0) * os.statvfs(folder).f_frsize
    left = None if budget is None else budget - run_bytes(folder)

    def bytes_too_many(share: float) -> int | None:
        """What is needed, where it is too much."""
        own, free = round(share * needed.nbytes) - there.nbytes, free_bytes(folder)
        if left is not None and left < free and own + needed.rest > left:
            return own + needed.rest
        return own + blocks if own + blocks > free else None

    if bytes_too_many(1.0) is None:
        return
    share, how = 1.0, "not compressed"
    if (name := codec()) != "none" and (known := known_share(name)) is not None:
        share = min(MARGIN * known, 1.0)
        how = f"{name} leaves {share:.0%} of {size(needed.nbytes)}, as the plan's sample says and a tenth"
    elif name != "none":
        numbers = sample()
        share = min(MARGIN * packed_share(numbers, name), 1.0)
        how = f"{name} leaves {share:.0%} of {size(needed.nbytes)}, as measured on {len(numbers)} samples and a tenth"
    if (bytes_to_come := bytes_too_many(share)) is not None:
        raise NoRoomError(
            f"{what} needs {size(bytes_to_come)} ({how}), and {described_room(folder, budget)}\nnext: {remedy()}"
        )


def described_room(run_folder: Path, budget: int | None) -> str:
    """What there is, as in "3.1 GB are free on the disk of runs/c10" or "are left of budget.disk, 50 GB"."""
    left = size(room(run_folder, budget))
    if budget is None or budget - run_bytes(run_folder) > free_bytes(run_folder):
        return f"{left} are free on the disk of {run_folder}"
    return f"{left} are left of budget.disk, {size(budget)}{of_all_seeds(run_folder)}"


def of_all_seeds(run_folder: Path) -> str:
    """To be said of the budget of a seed of a sweep, as in " of all seeds of runs/c10 together"; else ""."""
    folder = budgeted_folder(run_folder)
    return "" if folder == run_folder else f" of all seeds of {folder} together"
