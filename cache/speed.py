"""How fast a disk and the threads are at what readers and writers do, measured with a store on that disk."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.choice import fastest
from cache.codecs import CodecName, pack, unpack
from cache.layout import chunk_key, chunk_samples
from cache.memory import Ring, aligned_buffer
from cache.readback import forget
from cache.reader import Reader, ring_samples
from cache.store import Store
from cache.windows import Run, Window
from cache.writer import StoreWriter

TRIAL = ".disk-speed.store"
SECONDS = 1.5
"""Writing once and reading twice is to take about as long."""
FIRST_BYTES, LARGEST_BYTES = 8 * 2**20, 256 * 2**20
"""Of the store that is tried first, and of the largest."""
SURE_BYTES = FIRST_BYTES // 2
"""With less, what it takes to open and close files counts for more than the disk."""


@dataclass(frozen=True)
class DiskSpeed:
    """Of a disk, and of the threads that use it."""

    read_bytes_per_second: float
    """By the reader's threads, from the disk and not from the page cache."""
    write_bytes_per_second: float
    """By the writer's threads, committed."""
    fetch_seconds_per_byte: float
    """Of a processor, to copy, verify and gather what the page cache holds."""
    write_seconds_per_byte: float
    """Of a processor, to check it, hand it to the system and have it made durable."""
    nbytes: int
    """That were written, and read."""

    @property
    def is_sure(self) -> bool:
        """Whether it was measured on enough."""
        return self.nbytes >= SURE_BYTES


@dataclass(frozen=True)
class CodecSpeed:
    """Of a codec on a sample of stored numbers, by a byte of them."""

    share: float
    """Bytes on disk."""
    pack_seconds: float
    """Of a thread."""
    unpack_seconds: float
    """Of a thread."""


def disk_speed(
    folder: Path, numbers: NDArray[np.uint8], *, run: int, threads: int, at_most: int = LARGEST_BYTES
) -> DiskSpeed:
    """Write bytes (N, C, H, W) over and over as a store in `folder`, read it twice, and delete it.

    A little first; where that took next to no time, as much as takes a while. Never more than `at_most` bytes, but for
    a sample.
    """
    chunk = max(min(chunk_samples(run, numbers[0].nbytes), at_most // numbers[0].nbytes), 1)
    rows = np.ascontiguousarray(np.resize(numbers, (chunk, *numbers.shape[1:])))
    most = max(min(at_most, LARGEST_BYTES) // rows.nbytes, 1)
    few = min(max(FIRST_BYTES // rows.nbytes, 2 * threads), most)
    speed, seconds = _trial(folder, rows, few, threads)
    many = min(int(few * SECONDS / seconds), most)
    return speed if many < 2 * few else _trial(folder, rows, many, threads)[0]


def _trial(folder: Path, rows: NDArray[np.uint8], chunks: int, threads: int) -> tuple[DiskSpeed, float]:
    """As measured with some chunks, and the seconds that it took."""
    path, nbytes = folder / TRIAL, chunks * rows.nbytes
    shutil.rmtree(path, ignore_errors=True)
    try:
        write = _timed(lambda: _write(path, rows, chunks, threads))
        for number in range(chunks):
            forget(path / "x" / chunk_key(0, number, 0, 0, 0))
        read = _timed(lambda: _read(path, threads))
        again = _timed(lambda: _read(path, threads))
    finally:
        shutil.rmtree(path, ignore_errors=True)
    speed = DiskSpeed(nbytes / read[0], nbytes / write[0], again[1] / nbytes, write[1] / nbytes, nbytes)
    return speed, write[0] + read[0] + again[0]


def codec_speed(chunk: NDArray[Any], codec: CodecName) -> CodecSpeed:
    """Pack and unpack a chunk in this thread. Uncompressed it is what it is, and costs nothing."""
    if codec == "none":
        return CodecSpeed(1.0, 0.0, 0.0)
    body, decoded = pack(chunk, codec), np.empty_like(chunk)
    packing, unpacking = fastest(lambda: pack(chunk, codec)), fastest(lambda: unpack(body, codec, decoded))
    share = memoryview(body).nbytes / chunk.nbytes
    return CodecSpeed(share, packing / chunk.nbytes, unpacking / chunk.nbytes)


def _write(path: Path, rows: NDArray[np.uint8], chunks: int, threads: int) -> None:
    shape: tuple[int, int, int] = rows.shape[1:]
    count, samples = len(rows), len(rows) * chunks
    ids = np.arange(samples, dtype=np.int64)
    with StoreWriter(
        path,
        views=1,
        samples=samples,
        sample_shape=shape,
        encoding="identity",
        codec="none",
        run=count,
        threads=threads,
    ) as writer:
        for first in range(0, samples, count):
            writer.write(0, first, rows)
        writer.commit(y=ids, sample_id=ids)


def _read(path: Path, threads: int) -> None:
    store = Store(path)
    count = store.chunk_samples
    ring = Ring(aligned_buffer(ring_samples(2 * count, count) * store.sample_bytes))
    reader = Reader(store, ring, window_samples=2 * count, batch_size=count, threads=threads)
    for _ in reader.batches(_pairs(store.samples, count)):
        pass


def _pairs(samples: int, count: int) -> Iterator[Window]:
    """All samples, two chunks at a time, mixed as a training mixes them."""
    random = np.random.default_rng(0)
    for start in range(0, samples, 2 * count):
        stop = min(start + 2 * count, samples)
        yield Window(
            tuple(Run(0, first, count) for first in range(start, stop, count)), random.permutation(stop - start)
        )


def _timed(work: Any) -> tuple[float, float]:
    """Seconds on the clock, and of the processors."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return max(time.perf_counter() - began, 1e-9), time.process_time() - used
