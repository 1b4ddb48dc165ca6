"""Writing a store: whole chunks, in threads, journaled on the way, and one commit at the end."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cache.codecs import CodecName, checksum, pack_chunk
from cache.encodings import ELEMENT_TYPES, sample_bytes, stored_shape
from cache.files import make_folder, replace_file, sync, write_synced
from cache.hierarchy import SMALL_CODEC, metadata_files
from cache.journal import Begun, Journal, drop_journal
from cache.layout import FORMAT, MANIFEST, ChunkRecord, chunk_key, chunk_samples
from cache.leftovers import keep_only, sound_chunks
from cache.manifest import Chunks, Fingerprint, encode_manifest

BATCH_CHUNKS = 64
BATCH_BYTES = 64 * 2**20
"""Chunks are journaled when so many, or so many bytes of them, are written: what a power cut costs at most, apart from
what is under way. With these, 0.54 GB took 0.55 s, as with a single entry for all chunks (medians of five, on a busy
machine, where single runs differ by a quarter)."""

PACKING_AXIS = 4
"""Of (view, sample, channel, height, width), the one along which uint4 puts two numbers into a byte."""


class StoreWriter:
    """Writes one x_i of one split to the folder `path`, run by run, and commits it.

    Used as a context manager. What an earlier attempt at the same store journaled stays, once it is verified: `missing`
    says what is still to be written. Everything else at `path` is removed on the way in. What is left without `commit`
    is journaled, for the next attempt. At most `4 * threads` chunks and one run wait in memory, each with the run that
    it is part of.

    `sample_shape` is that of the activations, (C, H, W); a packed encoding stores less (`encodings.stored_shape`).
    `run` is the number of samples handed over at a time; a chunk is a divisor of it (`layout.chunk_samples`).
    `fingerprint` is what determines the numbers, and kept in the manifest; `attributes` are for readers of the store
    alone. Both are of what JSON holds.
    """

    def __init__(
        self,
        path: Path,
        *,
        views: int,
        samples: int,
        sample_shape: tuple[int, int, int],
        encoding: str,
        codec: CodecName,
        run: int,
        scale: NDArray[np.float32] | None = None,
        fingerprint: Fingerprint | None = None,
        attributes: dict[str, Any] | None = None,
        threads: int = 2,
    ) -> None:
        self.path = path
        self.dtype = np.dtype(ELEMENT_TYPES[encoding])
        self.chunk_samples = chunk_samples(run, sample_bytes(encoding, sample_shape))
        shape = (views, samples, *stored_shape(encoding, sample_shape))
        if min(shape) < 1:
            raise ValueError(f"a store of shape {shape} would hold nothing")
        self._channels = sample_shape[0]
        self._run = run
        self._scale = np.ones(sample_shape[0], np.float32) if scale is None else scale.astype(np.float32)
        self._begun = Begun(
            fingerprint=fingerprint or {},
            shape=shape,
            chunk_shape=(1, self.chunk_samples, *shape[2:]),
            encoding=encoding,
            codec=codec,
            scale_crc32c=checksum([self._scale]),
            attributes={**(attributes or {}), **own_attributes(encoding, sample_shape)},
        )
        self._records: list[ChunkRecord | None] = [None] * (views * self._begun.chunks_per_view)
        self._is_taken = [False] * len(self._records)
        self._batch: dict[int, ChunkRecord] = {}
        self._recording = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="cache-writer")
        self._waiting: list[Future[None]] = []
        self._queue_limit = 4 * threads
        self._committed = False

    def __enter__(self) -> Self:
        if (self.path / MANIFEST).exists():
            raise FileExistsError(f"{self.path} holds a committed store")
        kept = sound_chunks(self.path, self._begun, self._pool)
        keep_only(self.path, map(self._begun.chunk_name, kept))
        make_folder(self.path / "x")
        for index, record in kept.items():
            self._records[index], self._is_taken[index] = record, True
        self._journal = Journal(self.path, self._begun, kept)
        return self

    @property
    def written_chunks(self) -> int:
        """Chunks of x that are written: on the way in, those of an earlier attempt."""
        return len(self._records) - self._records.count(None)

    def missing(self, view: int) -> Iterator[tuple[int, int]]:
        """Where to go on in a view: samples first..stop-1 whose runs are not all written, a pair for each gap."""
        samples = self._begun.shape[1]
        gap: int | None = None
        for first in range(0, samples, self._run):
            is_written = self._has_run(view, first)
            if not is_written and gap is None:
                gap = first
            elif is_written and gap is not None:
                yield gap, first
                gap = None
        if gap is not None:
            yield gap, samples

    def write(self, view: int, first: int, x: NDArray[Any]) -> None:
        """Hand over stored numbers x, (n, *stored shape), of samples first..first+n-1 of `view`.

        `first` is a multiple of the run, and n a run, or what is left of the view. The array is read later, by
        a thread: the caller leaves it alone. Chunks that were handed over before stay, also in an earlier attempt.

        Raises ValueError where x does not belong there, and what a thread met while writing earlier chunks.
        """
        views, samples, *stored = self._begun.shape
        if not 0 <= view < views:
            raise ValueError(f"view = {view}: the store has views 0..{views - 1}")
        if first % self._run or not 0 <= first < samples or len(x) != min(self._run, samples - first):
            raise ValueError(f"samples {first}..{first + len(x) - 1} are not a run of {self._run} out of {samples}")
        if x.dtype != self.dtype or list(x.shape[1:]) != stored:
            raise ValueError(
                f"x has samples {x.shape[1:]} of {x.dtype}; the store takes {tuple(stored)} of {self.dtype}"
            )
        for start in range(0, len(x), self.chunk_samples):
            number = (first + start) // self.chunk_samples
            index = view * self._begun.chunks_per_view + number
            if not self._is_taken[index]:
                self._is_taken[index] = True
                rows = x[start : start + self.chunk_samples]
                self._waiting.append(self._pool.submit(self._write_chunk, index, rows))
        while len(self._waiting) > self._queue_limit:
            self._waiting.pop(0).result()

    def commit(self, *, y: NDArray[np.int64], sample_id: NDArray[np.int64]) -> None:
        """Write labels, sample ids, scale and metadata, make all of it durable, and put the manifest in place."""
        for future in self._waiting:
            future.result()
        self._waiting.clear()
        self._record_batch()
        missing = self._records.count(None)
        if missing:
            raise ValueError(f"{missing} of {len(self._records)} chunks of {self.path} were never written")
        arrays = {"x": Chunks.of([record for record in self._records if record])}
        samples = self._begun.shape[1]
        for name, values, like in (
            ("y", y, np.empty(samples, np.int64)),
            ("sample_id", sample_id, np.empty(samples, np.int64)),
            ("scale", self._scale, np.empty(self._channels, np.float32)),
        ):
            if values.shape != like.shape or values.dtype != like.dtype:
                raise ValueError(f"{name} is {values.shape} of {values.dtype}; expected {like.shape} of {like.dtype}")
            make_folder(self.path / name)
            parts, record = pack_chunk(values, SMALL_CODEC)
            write_synced(self.path / name / chunk_key(0), *parts)
            arrays[name] = Chunks.of([record])
        metadata = metadata_files(
            shape=self._begun.shape,
            chunk=self._begun.chunk_shape,
            dtype=self.dtype,
            codec=self._begun.codec,
            channels=self._channels,
            attributes=self._begun.attributes,
        )
        for name, text in metadata.items():
            write_synced(self.path / name, text.encode())
        for folder in (*(self.path / name for name in arrays), self.path):
            sync(folder)
        replace_file(self.path / MANIFEST, encode_manifest(self._begun.fingerprint, metadata, arrays))
        self._committed = True
        drop_journal(self.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if not self._committed and not isinstance(error, OSError):  # a disk that failed is asked nothing more
            with suppress(OSError):
                self._record_batch()
        self._journal.close()

    def _has_run(self, view: int, first: int) -> bool:
        start = view * self._begun.chunks_per_view
        stop = start + -(-min(first + self._run, self._begun.shape[1]) // self.chunk_samples)
        return None not in self._records[start + first // self.chunk_samples : stop]

    def _write_chunk(self, index: int, rows: NDArray[Any]) -> None:
        parts, record = pack_chunk(filled_up(rows, self.chunk_samples), self._begun.codec)
        write_synced(self.path / self._begun.chunk_name(index), *parts)
        with self._recording:
            self._records[index] = self._batch[index] = record
            nbytes = sum(chunk.length for chunk in self._batch.values())
            is_full = len(self._batch) >= BATCH_CHUNKS or nbytes >= BATCH_BYTES
        if is_full:
            self._record_batch()

    def _record_batch(self) -> None:
        """Journal the chunks written since the last time. The other threads go on meanwhile."""
        with self._recording:
            batch, self._batch = self._batch, {}
        self._journal.append(batch)


def own_attributes(encoding: str, sample_shape: tuple[int, int, int]) -> dict[str, Any]:
    """What a reader has to know of a store, beside what its caller says of it."""
    own: dict[str, Any] = {"format": FORMAT, "encoding": encoding}
    if encoding == "uint4":
        own |= {"logical_shape": list(sample_shape), "packing_axis": PACKING_AXIS}
    return own


def filled_up(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Samples with zeros behind them, up to `count`: a Zarr chunk is whole on disk, also the last one."""
    if len(rows) == count:
        return rows
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
