"""Ways to read one shuffled epoch of a store's samples, each as good as we know to write it.

All take a `Case` and yield as `rounds.Progress` says. All read the same samples; zarr-python, tensorstore and the
torch loaders read the same chunk files as ours, checksums and all. A batch counts once it is a numpy array in host
memory. How far samples are mixed differs: ours and torch over chunks mix a window, zarr-python and tensorstore over
chunks one chunk, LitData 256 samples of a chunk, and the others everything.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import tensorstore
import torch
import zarr
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from cache import Reader, Ring, Store, aligned_buffer, ring_samples
from pipeline.order import training_windows
from tests.benchmarks.data import Samples, Source
from tests.benchmarks.rounds import Contender, Progress

SLICE_SECONDS = 3.0
"""How long those run that would take minutes for an epoch."""
HELD_BYTES = 256 * 2**20
"""Stored chunks that `bare_decode` holds: more than a processor's caches."""
DECODERS: dict[str, Callable[..., Any]] = {"lz4": numcodecs.blosc.decompress, "zstd": numcodecs.zstd.decompress}
CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class Case:
    """One store and how it is to be read."""

    folder: Path
    """Holds "store", and the same samples as "flat.npy" and in LitData's format in "litdata"."""
    source: Source
    batch: int
    threads: int
    is_cold: bool

    @cached_property
    def store(self) -> Store:
        return Store(self.folder / "store")

    @property
    def chunk_paths(self) -> list[Path]:
        return sorted((self.folder / "store/x").glob("c.*"))

    def batches(self, seed: int = 1) -> Iterator[NDArray[np.int64]]:
        """Rows of each batch, all rows mixed."""
        order = np.random.default_rng(seed).permutation(self.store.samples)
        return (order[start : start + self.batch] for start in range(0, len(order), self.batch))

    def chunks(self) -> list[slice]:
        """Rows of each chunk, in another order."""
        size = self.store.chunk_samples
        return [slice(n * size, (n + 1) * size) for n in np.random.default_rng(1).permutation(len(self.chunk_paths))]


def ours(case: Case) -> Progress:
    """`cache.Reader` with room for two windows, so that none of the store stays in its memory.

    The ring's pages were touched before, as a second epoch finds them.
    """
    window, store = min(case.source.window, case.store.samples), case.store
    memory = aligned_buffer(ring_samples(window, case.batch) * store.sample_bytes)
    memory.fill(0)
    reader = Reader(store, Ring(memory), window_samples=window, batch_size=case.batch, threads=case.threads)
    windows = training_windows(store.samples, run=case.source.run, window=window, views=1, seed=0, stage=0, epoch=0)
    yield 0
    for batch in reader.batches(windows):
        yield len(batch.x)


def mapped(case: Case) -> Samples:
    """The flat file, mapped; where it is in the page cache, with its page tables made, as a second epoch finds it."""
    flat: Samples = np.load(case.folder / "flat.npy", mmap_mode="r")
    if not case.is_cold:
        flat.reshape(-1)[:: os.sysconf("SC_PAGE_SIZE")].max()
    return flat


def memmap_gather(case: Case) -> Progress:
    """Decoded samples in one mapped file, a batch by fancy indexing, in one thread."""
    flat = mapped(case)
    yield 0
    for rows in case.batches():
        yield len(flat[rows])


def memmap_take(case: Case) -> Progress:
    """The same into an array that is used again; "clip", because "raise" makes numpy copy twice."""
    flat = mapped(case)
    batch = np.empty((case.batch, *flat.shape[1:]), flat.dtype)
    yield 0
    for rows in case.batches():
        yield len(np.take(flat, rows, axis=0, out=batch[: len(rows)], mode="clip"))


def zarr_samples(case: Case) -> Progress:
    """zarr-python, one sample at a time."""
    x = zarr.open_array(case.store.path / "x", mode="r")
    batch = np.empty((case.batch, *case.store.sample_shape), case.store.dtype)
    yield 0
    for rows in case.batches():
        for place, row in enumerate(rows):
            batch[place] = x[0, row]
        yield len(rows)


def zarr_chunks(case: Case) -> Progress:
    """zarr-python, one chunk at a time, mixed in memory."""
    x = zarr.open_array(case.store.path / "x", mode="r")
    yield 0
    for rows in case.chunks():
        yield from map(len, mixed(np.asarray(x[0, rows]), case.batch))


def tensorstore_chunks(case: Case) -> Progress:
    """tensorstore, a few chunks in flight, each mixed in memory."""
    x = tensorstore_array(case)
    yield 0
    flying: deque[Any] = deque()
    for rows in case.chunks():
        flying.append(x[0, rows].read())
        if len(flying) > 2 * case.threads:
            yield from map(len, mixed(flying.popleft().result(), case.batch))
    for future in flying:
        yield from map(len, mixed(future.result(), case.batch))


def tensorstore_batches(case: Case) -> Progress:
    """tensorstore, a batch of rows at a time by its own indexing."""
    x = tensorstore_array(case)
    yield 0
    for rows in case.batches():
        yield len(x[0].oindex[rows].read().result())


def tensorstore_array(case: Case) -> Any:
    """The store's x, without a cache, on as many threads as ours."""
    limit = {"limit": case.threads}
    context = {"cache_pool": {"total_bytes_limit": 0}, "data_copy_concurrency": limit, "file_io_concurrency": limit}
    kvstore = {"driver": "file", "path": f"{case.store.path / 'x'}/"}
    return tensorstore.open({"driver": "zarr3", "kvstore": kvstore, "context": context}, read=True).result()


def mixed(chunk: NDArray[Any], batch: int) -> Iterator[NDArray[Any]]:
    """Batches of a chunk's samples, the last one shorter."""
    order = np.random.default_rng(1).permutation(len(chunk))
    return (chunk[order[start : start + batch]] for start in range(0, len(chunk), batch))


class SampleDataset(torch.utils.data.Dataset[torch.Tensor]):
    """One sample of a zarr array for each index."""

    def __init__(self, case: Case) -> None:
        self._x = zarr.open_array(case.store.path / "x", mode="r")

    def __len__(self) -> int:
        return int(self._x.shape[1])

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self._x[0, row]))


class ChunkDataset(IterableDataset[torch.Tensor]):
    """Batches from a buffer that holds a window of chunks, shared out over the workers by chunks."""

    def __init__(self, case: Case) -> None:
        self._x = zarr.open_array(case.store.path / "x", mode="r")
        self._chunks = case.chunks()
        self._batch = case.batch
        self._held = max(1, case.source.window // case.store.chunk_samples // case.threads)

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        assert worker is not None
        chunks = self._chunks[worker.id :: worker.num_workers]
        for start in range(0, len(chunks), self._held):
            held = np.concatenate([np.asarray(self._x[0, rows]) for rows in chunks[start : start + self._held]])
            yield from map(torch.from_numpy, mixed(held, self._batch))


def torch_samples(case: Case) -> Progress:
    """torch's DataLoader over single samples, in worker processes."""
    return started(DataLoader(SampleDataset(case), batch_size=case.batch, shuffle=True, **workers(case)))


def torch_chunks(case: Case) -> Progress:
    """torch's DataLoader over chunks with a shuffle buffer, in worker processes that hand over whole batches."""
    return started(DataLoader(ChunkDataset(case), batch_size=None, **workers(case)))


def litdata_inside(case: Case) -> Progress:
    """LitData in its own format, uncompressed, in this process."""
    return started(litdata_loader(case, {}))


def litdata_workers(case: Case) -> Progress:
    """LitData in its own format, uncompressed, in worker processes."""
    return started(litdata_loader(case, workers(case)))


def litdata_loader(case: Case, settings: dict[str, Any]) -> Any:
    litdata = import_module("litdata")
    dataset = litdata.StreamingDataset(f"{case.folder / 'litdata'}", shuffle=True)
    return litdata.StreamingDataLoader(dataset, batch_size=case.batch, **settings)


def workers(case: Case) -> dict[str, Any]:
    """As many worker processes as ours has threads. Not forked: this process has threads, and tensorstore's besides."""
    return {"num_workers": case.threads, "multiprocessing_context": "forkserver"}


def started(loader: Any) -> Progress:
    """The batches of a loader. Its first is not timed, since workers take seconds to start and would do so once."""
    batches = iter(loader)
    next(batches)
    yield 0
    for batch in batches:
        yield len(batch.numpy())


def bare_decode(case: Case) -> Progress:
    """Stored bytes, already in memory, decoded in threads into one chunk each: no file, checksum or order."""
    held: list[bytes] = []
    for path in case.chunk_paths:
        if sum(map(len, held)) < HELD_BYTES:
            held.append(path.read_bytes()[:-CHECKSUM_BYTES])
    return shared_out(case, held, DECODERS[case.store.codec])


def bare_read(case: Case) -> Progress:
    """Chunk files read in threads into one chunk each: what is left of the above where nothing is encoded."""

    def read(path: Path, dest: memoryview) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        os.preadv(descriptor, [dest], 0)
        os.close(descriptor)

    return shared_out(case, case.chunk_paths, read)


def shared_out(case: Case, chunks: Sequence[Any], work: Callable[[Any, memoryview], object]) -> Progress:
    """Do `work` on all chunks; each thread has its share from the start, so that none waits for orders."""

    buffers = [memoryview(bytearray(case.store.chunk_samples * case.store.sample_bytes)) for _ in range(case.threads)]

    def one_thread(number: int) -> int:
        share = chunks[number :: case.threads]
        for chunk in share:
            work(chunk, buffers[number])
        return len(share) * case.store.chunk_samples

    with ThreadPoolExecutor(case.threads) as pool:
        yield 0
        yield from pool.map(one_thread, range(case.threads))


MEMMAP = ("memmap", "memmap, take")
TENSORSTORE = ("tensorstore, chunks", "tensorstore, batches")
LITDATA = ("litdata", "litdata, workers")
LITDATA_IS_INSTALLED = find_spec("litdata") is not None
"""No dependency of cascade: measured where someone installed it."""


def contenders(codec: str) -> list[Contender[Case]]:
    """All that can run here against a store of this codec."""
    litdata = [
        Contender(LITDATA[0], litdata_inside, SLICE_SECONDS),
        Contender(LITDATA[1], litdata_workers, SLICE_SECONDS),
    ]
    return [
        Contender("ours", ours),
        Contender(MEMMAP[0], memmap_gather),
        Contender(MEMMAP[1], memmap_take),
        Contender("zarr, samples", zarr_samples, SLICE_SECONDS),
        Contender("zarr, chunks", zarr_chunks, SLICE_SECONDS),
        Contender(TENSORSTORE[0], tensorstore_chunks, SLICE_SECONDS),
        Contender(TENSORSTORE[1], tensorstore_batches, SLICE_SECONDS),
        Contender("torch, samples", torch_samples, SLICE_SECONDS),
        Contender("torch, chunks", torch_chunks, SLICE_SECONDS),
        *(litdata if LITDATA_IS_INSTALLED else []),
        Contender("bare", bare_decode if codec in DECODERS else bare_read),  # before ours: it leaves no process behind
    ]
