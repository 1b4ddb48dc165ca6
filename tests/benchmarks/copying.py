"""What decided how the reader copies: each of its choices against the other one, on this machine.

    python -m tests.benchmarks.copying

- A file read to an address at a page's beginning, and 16 bytes behind it, where numpy's own arrays begin.
- Checksums by crc32c, which lets other threads run meanwhile, and by google_crc32c, which does not.
- Chunks read in small and in large pieces by two threads, each piece verified when it is read.
- A file read into memory against mapping it: mapping, populating and unmapping, without a copy.
"""

import argparse
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import patch

import crc32c
import google_crc32c
import numpy as np

from cache import Reader, Ring, Store, aligned_buffer, ring_samples
from pipeline.order import training_windows
from tests.benchmarks import machine
from tests.benchmarks.data import Source, write_store

CHUNKS = 64
CHUNK_BYTES = 8 * 2**20
REPEAT = 3


def gigabytes_per_second(work: Callable[[int], object], threads: int) -> float:
    """The fastest of a few rounds of `work` on every chunk by its number."""
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEAT):
            began = time.perf_counter()
            for _ in pool.map(work, range(CHUNKS)):
                pass
            best = min(best, time.perf_counter() - began)
    return CHUNKS * CHUNK_BYTES / best / 1e9


def read_to(descriptor: int, offset: int, threads: int) -> float:
    """Reading a file to `offset` bytes behind a page's beginning, into memory larger than the caches."""
    memory = aligned_buffer(CHUNKS * CHUNK_BYTES + 4096)
    memory.fill(0)

    def read(number: int) -> None:
        start = number * CHUNK_BYTES + offset
        os.preadv(descriptor, [memory.data[start : start + CHUNK_BYTES]], number * CHUNK_BYTES)

    return gigabytes_per_second(read, threads)


def mapped(descriptor: int, threads: int) -> float:
    """Mapping a chunk's pages, touching none of its bytes."""

    def populate(number: int) -> None:
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        mmap.mmap(descriptor, CHUNK_BYTES, flags, mmap.PROT_READ, offset=number * CHUNK_BYTES).close()

    return gigabytes_per_second(populate, threads)


def in_pieces(store: Store, piece_bytes: int, threads: int) -> float:
    """One epoch of a store, pieces of this size."""
    memory = aligned_buffer(ring_samples(1024, 128) * store.sample_bytes)
    memory.fill(0)
    reader = Reader(store, Ring(memory), window_samples=1024, batch_size=128, threads=threads)
    best = float("inf")
    with patch("cache.reader.PIECE_BYTES", piece_bytes), patch("cache.verified.PIECE_BYTES", piece_bytes):
        for epoch in range(REPEAT + 1):
            windows = training_windows(store.samples, run=128, window=1024, views=1, seed=0, stage=0, epoch=epoch)
            began = time.perf_counter()
            for _ in reader.batches(windows):
                pass
            best = min(best, time.perf_counter() - began)
    return store.samples * store.sample_bytes / best / 1e9


def main(argv: list[str] | None = None) -> int:
    """Measure and print GB/s with one and two threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--folder", type=Path, help="where to put the files, instead of the temporary folder")
    arguments = parser.parse_args(argv)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        path = Path(name) / "file"
        data = np.random.default_rng(0).integers(0, 256, (CHUNKS, CHUNK_BYTES), np.uint8)
        data.tofile(path)
        write_store(Path(name) / "store", Source((64, 32, 32), CHUNKS * CHUNK_BYTES), "none")
        store = Store(Path(name) / "store")
        with path.open("rb", buffering=0) as file:
            ways: dict[str, Callable[[int], float]] = {
                "read to a page": lambda threads: read_to(file.fileno(), 0, threads),
                "read to a page + 16": lambda threads: read_to(file.fileno(), 16, threads),
                "map, populate, unmap": lambda threads: mapped(file.fileno(), threads),
                "crc32c": partial(gigabytes_per_second, lambda number: crc32c.crc32c(data[number].data)),
                "google_crc32c": partial(gigabytes_per_second, lambda number: google_crc32c.value(data[number])),
                "reader, pieces of 256 KB": lambda threads: in_pieces(store, 2**18, threads),
                "reader, pieces of 4 MB": lambda threads: in_pieces(store, 2**22, threads),
            }
            for title, way in ways.items():
                found[title] = [way(threads) for threads in (1, 2)]
    machine.print_table(["GB/s", "1 thread", "2 threads"], [[k, *map("{:.1f}".format, v)] for k, v in found.items()])
    if arguments.json:
        machine.write_json(arguments.json, {"machine": machine.record(), "gigabytes_per_second": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
