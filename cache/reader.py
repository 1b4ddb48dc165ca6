"""Reading a store in a given order with bounded memory.

The order comes as windows: a few runs of consecutive samples that are in memory together, and the sequence in
which their samples are drawn. Every chunk of an epoch is read once. While one window is drawn from, threads
fill the next; the two window buffers are all that is held, whatever the size of the store.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import BudgetError
from cache.store import Store


@dataclass(frozen=True)
class Run:
    """Consecutive samples first..first+count-1 of one view; `first` is a multiple of the store's chunk."""

    view: int
    first: int
    count: int


@dataclass(frozen=True)
class Window:
    """Runs that are in memory together, and the order in which their samples are drawn."""

    runs: tuple[Run, ...]
    draw: NDArray[np.int64]
    """A permutation of the window's samples, which count through its runs in turn."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row in the store of each sample, as drawn."""
        return np.concatenate([np.arange(run.first, run.first + run.count) for run in self.runs])[self.draw]

    @property
    def views(self) -> NDArray[np.int64]:
        """View of each sample, as drawn."""
        return np.repeat([run.view for run in self.runs], [run.count for run in self.runs])[self.draw]


@dataclass(frozen=True)
class Batch:
    """Samples as they are stored, with where they came from."""

    x: NDArray[Any]
    """(N, C, H, W), in the store's element type. Owned by whoever takes the batch."""
    rows: NDArray[np.int64]
    """Their rows in the store."""
    views: NDArray[np.int64]
    """The view of each."""


class Reader:
    """Reads batches from one store.

    A store of one view answers for every view: the images are that, from which all views are cut.

    Raises BudgetError where two windows of `window_samples` do not fit in `memory_bytes`.
    """

    def __init__(self, store: Store, *, window_samples: int, memory_bytes: int, threads: int = 2) -> None:
        self.store = store
        slots = -(-min(window_samples, store.samples) // store.chunk_samples) * store.chunk_samples
        window_bytes = slots * store.sample_bytes
        if 2 * window_bytes > memory_bytes:
            fitting = memory_bytes // (2 * store.sample_bytes * store.chunk_samples) * store.chunk_samples
            raise BudgetError(
                f"two windows of {window_samples} samples of {store.sample_bytes} bytes need {2 * window_bytes} bytes "
                f"of host memory, and {memory_bytes} are allowed; allow as much, or a window of {fitting} samples"
            )
        self._window_shape = (slots, *store.sample_shape)
        self._threads = threads

    def batches(self, windows: Iterable[Window], batch_size: int) -> Iterator[Batch]:
        """Batches of `batch_size` samples in the order of `windows`; the last may be shorter."""
        held: list[Batch] = []
        count = 0
        for window, buffer, places in self._loaded(windows):
            rows, views = window.rows, window.views
            start = 0
            while start < len(rows):
                take = slice(start, min(start + batch_size - count, len(rows)))
                held.append(Batch(buffer[places[take]], rows[take], views[take]))
                count += take.stop - start
                start = take.stop
                if count == batch_size:
                    yield _joined(held)
                    held, count = [], 0
        if held:
            yield _joined(held)

    def _loaded(self, windows: Iterable[Window]) -> Iterator[tuple[Window, NDArray[Any], NDArray[np.int64]]]:
        """Each window with its buffer and each drawn sample's place there, while the next window loads."""
        buffers = cycle([np.empty(self._window_shape, self.store.dtype) for _ in range(2)])
        with ThreadPoolExecutor(self._threads, thread_name_prefix="cache-reader") as pool:
            try:
                ahead: deque[tuple[Window, NDArray[Any], list[Future[None]]]] = deque()
                for window in windows:
                    buffer = next(buffers)
                    ahead.append((window, buffer, self._load(pool, window, buffer)))
                    if len(ahead) == 2:
                        yield self._finished(*ahead.popleft())
                while ahead:
                    yield self._finished(*ahead.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _finished(
        self, window: Window, buffer: NDArray[Any], reads: list[Future[None]]
    ) -> tuple[Window, NDArray[Any], NDArray[np.int64]]:
        for read in reads:
            read.result()
        slots = np.cumsum([0, *(self._slots(run) for run in window.runs[:-1])])
        places = [slot + np.arange(run.count) for slot, run in zip(slots, window.runs, strict=True)]
        return window, buffer, np.concatenate(places)[window.draw]

    def _slots(self, run: Run) -> int:
        """Samples that a run takes up in a buffer: whole chunks, also of a short last run."""
        size = self.store.chunk_samples
        return -(-run.count // size) * size

    def _load(self, pool: ThreadPoolExecutor, window: Window, buffer: NDArray[Any]) -> list[Future[None]]:
        """Start reading all chunks of a window into `buffer`, one run behind the other."""
        size = self.store.chunk_samples
        for run in window.runs:
            inside = (
                0 <= run.view < self.store.views or self.store.views == 1
            ) and 0 <= run.first <= self.store.samples - run.count
            if not inside or run.first % size:
                raise ValueError(
                    f"{run}: the store has {self.store.views} views of {self.store.samples} samples in chunks of {size}"
                )
        needed = sum(map(self._slots, window.runs))
        if needed > len(buffer):
            raise ValueError(f"a window takes up {needed} samples in whole chunks; the reader was given {len(buffer)}")
        reads, slot = [], 0
        for run in window.runs:
            for start in range(0, run.count, size):
                number = (run.first + start) // size
                view = run.view if self.store.views > 1 else 0
                reads.append(pool.submit(self.store.read_chunk, view, number, buffer[slot : slot + size]))
                slot += size
        return reads


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return Batch(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.views for part in parts]),
    )
