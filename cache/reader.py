"""Reading a store in a given order, as fast as the machine copies bytes, in bounded memory.

The order comes as windows: a few runs of consecutive samples that are in memory together, and the sequence in which
their samples are drawn. So each sample's place in the batches to come is known before its chunk is read, and threads
put it there at once: chunks that are not compressed are read from the file straight into the batches. Every chunk of
an epoch is read once. A ring of batches holds two windows: while one window's batches are drawn, the next one's are
filled. Beside it there are one stored and one decoded chunk for each thread.
"""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache.errors import BudgetError
from cache.memory import ChunkCache, Ring, aligned_buffer
from cache.place import Bytes
from cache.store import Store
from cache.timing import Timings
from cache.verified import PIECE_BYTES
from cache.windows import Batch, Indices, Rank, Run, Window

SCATTER_BYTES = 32 * 2**10
"""A sample from this size on is read by itself into its place; smaller ones come by the chunk and are copied there,
because a buffer in a system call and a checksum for each cost more than the copy."""


def ring_samples(window_samples: int, batch_size: int, *, hold: int = 1) -> int:
    """Samples that the ring of a `Reader` of these settings holds: two windows, in whole batches.

    `hold` batches stay as they are at the consumer's, the one that it was given last among them.
    """
    slots = -(-2 * window_samples // batch_size) + bool(window_samples % batch_size) + hold - 1
    return slots * batch_size


class Reader:
    """Reads batches of `batch_size` samples from one store, or a rank's share of them.

    A store of one view answers for every view: the images are that, from which all views are cut. A batch stays as it
    is until `hold` more are asked for. `ring` may be shared by readers of which one at a time is drawn from; decoded
    chunks that fit stay in `kept`, and are not read again.

    Raises BudgetError where two windows of `window_samples` do not fit in `ring`.
    """

    def __init__(
        self,
        store: Store,
        ring: Ring,
        *,
        window_samples: int,
        batch_size: int,
        threads: int = 2,
        hold: int = 1,
        rank: Rank | None = None,
        kept: ChunkCache | None = None,
        timings: Timings | None = None,
    ) -> None:
        self.store = store
        self.batch_size = batch_size
        self.timings = timings or Timings()
        self._ring = ring
        self._kept = kept or ChunkCache(0)
        whole_batches = -(-store.samples // batch_size) * batch_size  # else a small store would take a slot more
        self._window_samples = min(window_samples, whole_batches)
        self._first, self._stop = (rank or Rank()).share(batch_size)
        self._slots = ring_samples(self._window_samples, batch_size, hold=hold) // batch_size
        self._ring_bytes = self._slots * (self._stop - self._first) * store.sample_bytes
        if self._ring_bytes > ring.nbytes:
            fitting = max((ring.nbytes // (store.sample_bytes * batch_size) - hold + 1) // 2, 0) * batch_size
            raise BudgetError(
                f"two windows of {self._window_samples} samples of {store.sample_bytes} bytes, in batches of "
                f"{batch_size}, need {self._ring_bytes} bytes of host memory, and {ring.nbytes} are allowed; "
                f"allow as much, or a window of {fitting} samples"
            )
        self._threads = threads
        self._hold = hold
        self._scratch = threading.local()

    def batches(self, windows: Iterable[Window], *, start: int = 0) -> Generator[Batch, None, None]:
        """Batches in the order of `windows`, without the first `start` samples; the last may be shorter.

        `start` is a multiple of the batch size, so that an epoch that was left goes on as if it had not been.
        """
        if start % self.batch_size:
            raise ValueError(f"start = {start} is no multiple of the batch size, {self.batch_size}")
        shape = (self._slots, self._stop - self._first, *self.store.stored_shape)
        with (
            self._ring.lend() as flat,
            ThreadPoolExecutor(self._threads, thread_name_prefix="cache-reader") as pool,
        ):
            flat = flat[: self._ring_bytes]
            ring = flat.view(self.store.dtype).reshape(shape)
            rows = flat.reshape(-1, self.store.sample_bytes)
            places = _Places(rows, list(rows) if self.store.sample_bytes >= SCATTER_BYTES else [])
            try:
                yield from self._batches(iter(windows), start, ring, places, pool)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _batches(
        self, windows: Iterator[Window], start: int, ring: NDArray[Any], places: "_Places", pool: ThreadPoolExecutor
    ) -> Iterator[Batch]:
        size = self.batch_size
        loading: deque[tuple[Window, list[Future[None]]]] = deque()
        rows = views = np.empty(0, np.int64)  # in the ring, not handed out yet
        begun = taken = 0  # samples of the epoch in windows that were begun, and in batches
        window = next(windows, None)
        while True:
            while window is not None and begun + len(window.draw) <= (self._slots + 1 - self._hold) * size + taken:
                loading.append((window, self._begin(window, begun, start, places, pool)))
                begun += len(window.draw)
                window = next(windows, None)
            while loading and len(rows) < size:
                loaded, reads = loading.popleft()
                self._await(reads)
                rows, views = np.concatenate([rows, loaded.rows]), np.concatenate([views, loaded.views])
            if not len(rows):
                return
            if taken >= start:
                share = slice(self._first, min(self._stop, len(rows)))
                x = ring[taken // size % self._slots, : max(share.stop - share.start, 0)]
                yield Batch(x, rows[share], views[share])
            taken += size
            rows, views = rows[size:], views[size:]

    def _await(self, reads: list[Future[None]]) -> None:
        began = time.perf_counter()
        for read in reads:
            read.result()
        self.timings.waited(time.perf_counter() - began)

    def _begin(
        self, window: Window, begun: int, start: int, ring: "_Places", pool: ThreadPoolExecutor
    ) -> list[Future[None]]:
        """Start reading the chunks of a window, whose first sample is the epoch's sample `begun`, into the ring."""
        if len(window.draw) > self._window_samples:
            raise ValueError(
                f"a window of {len(window.draw)} samples; the reader was given memory for {self._window_samples}"
            )
        places = np.empty(len(window.draw), np.int64)
        places[window.draw] = self._places(begun + np.arange(len(window.draw)), start)
        chunk = self.store.chunk_samples
        reads = []
        for run in window.runs:
            self._check(run)
            view = run.view if self.store.views > 1 else 0
            for first in range(0, run.count, chunk):
                here = np.full(chunk, -1)
                count = min(chunk, run.count - first)
                here[:count], places = places[:count], places[count:]
                if (here >= 0).any():
                    reads.append(pool.submit(self._fill, ring, view, (run.first + first) // chunk, here))
        return reads

    def _places(self, samples: Indices, start: int) -> Indices:
        """Where in the ring samples of the epoch belong, by their number in the order of drawing; -1 is nowhere."""
        batch, place = np.divmod(samples, self.batch_size)
        ours = (self._first <= place) & (place < self._stop) & (samples >= start)
        return np.where(ours, batch % self._slots * (self._stop - self._first) + place - self._first, -1)

    def _check(self, run: Run) -> None:
        store = self.store
        in_views = 0 <= run.view < store.views or store.views == 1
        if not in_views or not 0 <= run.first <= store.samples - run.count or run.first % store.chunk_samples:
            raise ValueError(
                f"{run}: the store has {store.views} views of {store.samples} samples "
                f"in chunks of {store.chunk_samples}"
            )

    def _fill(self, ring: "_Places", view: int, number: int, places: Indices) -> None:
        """Put the samples of a chunk where they belong in the ring."""
        store = self.store
        name, shape = (str(store.path), view, number), (store.chunk_samples, store.sample_bytes)
        chunk = self._kept.get(name)
        if chunk is None and self._kept.claim(shape[0] * shape[1]):
            chunk = np.empty(shape, np.uint8)
            try:
                store.read_chunk(view, number, chunk, self.timings)
            except BaseException:
                self._kept.release(chunk.nbytes)
                raise
            self._kept.keep(name, chunk)
        if chunk is None and store.codec == "none":
            self._fill_in_pieces(ring, view, number, places)
            return
        if chunk is None:
            chunk = self._thread_scratch(store.chunk_samples)
            store.read_chunk(view, number, chunk, self.timings)
        with self.timings.of("gather"):
            _scatter(chunk, places, ring.rows)

    def _fill_in_pieces(self, ring: "_Places", view: int, number: int, places: Indices) -> None:
        """The same from a chunk that is not compressed, some samples at a time."""
        nbytes = self.store.sample_bytes
        piece = max(PIECE_BYTES // nbytes, 1)
        scratch = self._thread_scratch(min(piece, self.store.chunk_samples))
        with self.store.raw_chunk(view, number, self.timings) as chunk:
            for start in range(0, len(places), piece):
                here = places[start : start + piece]
                if nbytes >= SCATTER_BYTES:
                    dests = [ring.list[p] if p >= 0 else scratch[i] for i, p in enumerate(here.tolist())]
                    chunk.read(dests, nbytes * len(here))
                    continue
                chunk.read([scratch[: len(here)].reshape(-1)], nbytes * len(here))
                with self.timings.of("gather"):
                    _scatter(scratch[: len(here)], here, ring.rows)

    def _thread_scratch(self, samples: int) -> Bytes:
        """Room for samples, (samples, bytes), the reading thread's own."""
        if not hasattr(self._scratch, "samples"):
            self._scratch.samples = aligned_buffer(samples * self.store.sample_bytes).reshape(samples, -1)
        array: Bytes = self._scratch.samples
        return array


class _Places(NamedTuple):
    """A ring by the places of its samples."""

    rows: Bytes
    """(places, bytes of a sample)."""
    list: list[Bytes]
    """The rows of large samples, made once: a slice of an array for each sample read would take as long as the
    reading."""


def _scatter(samples: Bytes, places: Indices, rows: Bytes) -> None:
    """Copy samples to their places; -1 is nowhere."""
    wanted = places >= 0
    if wanted.all():
        rows[places] = samples
    else:
        rows[places[wanted]] = samples[wanted]
