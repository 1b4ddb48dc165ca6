"""What is read together and in which order, as plain values."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


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
    draw: Indices
    """A permutation of the window's samples, which count through its runs in turn."""

    @property
    def rows(self) -> Indices:
        """Row in the store of each sample, as drawn."""
        return np.concatenate([np.arange(run.first, run.first + run.count) for run in self.runs])[self.draw]

    @property
    def views(self) -> Indices:
        """View of each sample, as drawn."""
        return np.repeat([run.view for run in self.runs], [run.count for run in self.runs])[self.draw]


@dataclass(frozen=True)
class Rank:
    """Which share of every batch is read, where several processes train together.

    The batches are the whole group's, whatever its size: rank r of n takes places B r / n up to B (r + 1) / n of each
    batch of B, so a short last batch may leave it less, or nothing. Every rank reads each chunk that holds one of its
    samples, which with large windows is each chunk.
    """

    rank: int = 0
    ranks: int = 1

    def share(self, batch_size: int) -> tuple[int, int]:
        """First place in a batch, and the place behind the last."""
        return batch_size * self.rank // self.ranks, batch_size * (self.rank + 1) // self.ranks


def in_batches(windows: Iterable[Window], batch_size: int) -> Iterator[tuple[Indices, Indices]]:
    """Rows and views of the samples of windows, batch by batch; the last may be shorter."""
    rows = views = np.empty(0, np.int64)
    for window in windows:
        rows, views = np.concatenate([rows, window.rows]), np.concatenate([views, window.views])
        while len(rows) >= batch_size:
            yield rows[:batch_size], views[:batch_size]
            rows, views = rows[batch_size:], views[batch_size:]
    if len(rows):
        yield rows, views


@dataclass(frozen=True)
class Batch:
    """Samples as they are stored, with where they came from."""

    x: NDArray[Any]
    """(N, *stored shape), in the store's element type: a part of the reader's ring, which is written to again."""
    rows: Indices
    """Their rows in the store."""
    views: Indices
    """The view of each."""
