import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cache import (
    Batch,
    BudgetError,
    ChunkCache,
    CodecName,
    CorruptStoreError,
    Rank,
    Reader,
    Ring,
    Run,
    Store,
    Window,
    aligned_buffer,
    ring_samples,
)
from cache.place import Folder, OpenObject
from tests.conftest import WriteStore

SIZES = [(10, 4, 8), (8, 4, 4), (1, 4, 8), (3, 4, 8), (37, 6, 12), (64, 1, 5), (64, 8, 1000)]
"""Samples, run, samples in a window; the last run is often short and the window larger than the store."""


def epoch(samples: int, run: int, window: int, *, views: int = 1, seed: int = 0) -> list[Window]:
    """Every sample once: runs in random order, each of a random view, several in a window, drawn in random order."""
    rng = np.random.default_rng(seed)
    runs = [Run(int(rng.integers(views)), first, min(run, samples - first)) for first in range(0, samples, run)]
    shuffled = [runs[i] for i in rng.permutation(len(runs))]
    windows = []
    for start in range(0, len(runs), max(window // run, 1)):
        held = tuple(shuffled[start : start + max(window // run, 1)])
        windows.append(Window(held, rng.permutation(sum(r.count for r in held))))
    return windows


def read(path: Path, windows: list[Window], batch_size: int, *, threads: int = 2) -> tuple[list[Batch], list[int]]:
    """Copies of all batches, and their sizes."""
    window_samples = max(sum(r.count for r in window.runs) for window in windows)
    batches = copies(reader_of(path, window_samples, batch_size, threads=threads).batches(windows))
    return batches, [len(batch.rows) for batch in batches]


def copies(batches: Iterable[Batch]) -> list[Batch]:
    """Batches that outlive the reader's ring."""
    return [Batch(batch.x.copy(), batch.rows, batch.views) for batch in batches]


def reader_of(path: Path, window_samples: int, batch_size: int, *, hold: int = 1, **settings: Any) -> Reader:
    """A reader with a ring of just the size it needs."""
    store = Store(path)
    window = min(window_samples, store.samples)
    ring = Ring(aligned_buffer(ring_samples(window, batch_size, hold=hold) * store.sample_bytes))
    return Reader(store, ring, window_samples=window, batch_size=batch_size, hold=hold, **settings)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """How often each (view, chunk) is read from now on."""
    reads: Counter[tuple[int, int]] = Counter()
    open_file = Folder.open

    def counted(folder: Folder, name: str, *limit: int) -> AbstractContextManager[OpenObject]:
        if name.startswith("x/c."):
            _, view, number, *_ = name.split(".")
            reads[int(view), int(number)] += 1
        return open_file(folder, name, *limit)

    monkeypatch.setattr(Folder, "open", counted)
    return reads


def joined(batches: list[Batch]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    x, rows, views = ([getattr(batch, name) for batch in batches] for name in ("x", "rows", "views"))
    return np.concatenate(x), np.concatenate(rows), np.concatenate(views)


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize(("samples", "run", "window"), SIZES)
@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_every_sample_of_an_epoch_comes_once_in_the_order_of_the_windows(
    write_store: WriteStore, samples: int, run: int, window: int, views: int, batch_size: int
) -> None:
    path, x = write_store(samples=samples, run=run, views=views)
    windows = epoch(samples, run, window, views=views)
    batches, sizes = read(path, windows, batch_size)
    read_x, rows, view = joined(batches)
    assert sorted(rows) == list(range(samples))
    held = [[(r.view, r.first + i) for r in window.runs for i in range(r.count)] for window in windows]
    drawn = [places[i] for window, places in zip(windows, held, strict=True) for i in window.draw]
    assert list(zip(view.tolist(), rows.tolist(), strict=True)) == drawn
    assert read_x.tobytes() == x[view, rows].tobytes()
    assert sizes == [batch_size] * (samples // batch_size) + [samples % batch_size] * (samples % batch_size > 0)


def test_short_last_run_may_stand_first_in_a_window(write_store: WriteStore) -> None:
    path, x = write_store(samples=10, run=4)
    windows = [Window((Run(0, 8, 2), Run(0, 4, 4)), np.arange(6)), Window((Run(0, 0, 4),), np.arange(4))]
    [batch], _ = read(path, windows, 10)
    assert batch.rows.tolist() == [8, 9, 4, 5, 6, 7, 0, 1, 2, 3]
    assert batch.x.tobytes() == x[0, batch.rows].tobytes()


def test_run_of_several_chunks_is_read_whole(write_store: WriteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.layout.CHUNK_BYTES", 2 * 2 * 3 * 3 * 4)
    path, x = write_store(samples=21, run=6)
    assert Store(path).chunk_samples == 2
    batches, _ = read(path, epoch(21, 6, 12), 5)
    read_x, rows, _ = joined(batches)
    assert read_x.tobytes() == x[0, rows].tobytes()


def test_batches_cross_the_borders_of_windows(write_store: WriteStore) -> None:
    path, _ = write_store(samples=12, run=2)
    batches, sizes = read(path, epoch(12, 2, 4), 5)
    assert sizes == [5, 5, 2]
    assert joined(batches)[1].tolist() == np.concatenate([window.rows for window in epoch(12, 2, 4)]).tolist()


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (11, [10])])
def test_samples_that_do_not_fill_a_batch_come_in_a_shorter_last_one(
    write_store: WriteStore, batch_size: int, sizes: list[int]
) -> None:
    path, _ = write_store(samples=10, run=4)
    assert read(path, epoch(10, 4, 8), batch_size)[1] == sizes


@pytest.mark.parametrize("views", [1, 2])
def test_each_chunk_of_an_epoch_is_read_once(
    write_store: WriteStore, monkeypatch: pytest.MonkeyPatch, views: int
) -> None:
    path, _ = write_store(samples=37, run=4, views=views)
    windows = epoch(37, 4, 12, views=views)
    reads = count_reads(monkeypatch)
    read(path, windows, 5)
    assert reads == Counter((run.view, run.first // 4) for window in windows for run in window.runs)
    assert set(reads.values()) == {1}
    assert len(reads) == 10


def test_number_of_threads_changes_no_batch(write_store: WriteStore) -> None:
    path, _ = write_store(samples=64, run=4)
    one, four = (read(path, epoch(64, 4, 16), 7, threads=threads)[0] for threads in (1, 4))
    assert [(a.x.tobytes(), a.rows.tolist()) for a in one] == [(b.x.tobytes(), b.rows.tolist()) for b in four]


@pytest.mark.parametrize("hold", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [3, 4])
def test_batch_stays_as_it_is_until_as_many_more_were_asked_for_as_it_is_held(
    write_store: WriteStore, hold: int, batch_size: int
) -> None:
    path, x = write_store(samples=64, run=4)
    held: deque[Batch] = deque(maxlen=hold)
    for batch in reader_of(path, 8, batch_size, hold=hold).batches(epoch(64, 4, 8)):
        held.append(batch)
        time.sleep(0.002)  # for the threads to write wherever they may
        for earlier in held:
            assert earlier.x.tobytes() == x[0, earlier.rows].tobytes()


@pytest.mark.parametrize("scatter_bytes", [1, 2**20])
@pytest.mark.parametrize("start", [0, 5, 20, 35])
def test_an_epoch_that_was_left_goes_on_with_the_same_batches(
    write_store: WriteStore, monkeypatch: pytest.MonkeyPatch, start: int, scatter_bytes: int
) -> None:
    monkeypatch.setattr("cache.reader.SCATTER_BYTES", scatter_bytes)
    path, _ = write_store(samples=37, run=4, codec="none")
    windows = epoch(37, 4, 12)
    whole, _ = read(path, windows, 5)
    reads = count_reads(monkeypatch)
    rest = copies(reader_of(path, 12, 5).batches(windows, start=start))
    assert [batch.x.tobytes() for batch in rest] == [batch.x.tobytes() for batch in whole[start // 5 :]]
    needed = {int(row) // 4 for batch in whole[start // 5 :] for row in batch.rows}
    assert {number for _, number in reads} == needed, "chunks of what is behind are not read again"


def test_an_epoch_goes_on_at_whole_batches_only(write_store: WriteStore) -> None:
    path, _ = write_store(samples=37, run=4)
    with pytest.raises(ValueError, match="start = 7 is no multiple of the batch size, 5"):
        next(reader_of(path, 12, 5).batches(epoch(37, 4, 12), start=7))


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [4, 7])
@pytest.mark.parametrize("scatter_bytes", [1, 2**20])
def test_the_shares_of_all_ranks_are_the_batches_of_one(
    write_store: WriteStore, monkeypatch: pytest.MonkeyPatch, ranks: int, batch_size: int, scatter_bytes: int
) -> None:
    monkeypatch.setattr("cache.reader.SCATTER_BYTES", scatter_bytes)
    path, x = write_store(samples=37, run=4, codec="none")
    windows = epoch(37, 4, 12)
    whole, _ = read(path, windows, batch_size)
    shares = [copies(reader_of(path, 12, batch_size, rank=Rank(rank, ranks)).batches(windows)) for rank in range(ranks)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert np.concatenate([part.rows for part in parts]).tolist() == batch.rows.tolist()
        assert np.concatenate([part.x for part in parts]).tobytes() == batch.x.tobytes() == x[0, batch.rows].tobytes()


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_chunks_that_fit_stay_and_are_not_read_again(
    write_store: WriteStore, monkeypatch: pytest.MonkeyPatch, codec: CodecName
) -> None:
    path, x = write_store(samples=64, run=4, codec=codec)
    chunk_bytes = 4 * 72
    for fitting, read_again in ((16, 0), (5, 11), (0, 16)):
        kept = ChunkCache(fitting * chunk_bytes + 1)
        reader = reader_of(path, 8, 4, kept=kept)
        reads = count_reads(monkeypatch)
        for seed in range(2):
            read_x, rows, _ = joined(copies(reader.batches(epoch(64, 4, 8, seed=seed))))
            assert read_x.tobytes() == x[0, rows].tobytes()
        assert sum(reads.values()) == 16 + read_again
        monkeypatch.undo()


def test_samples_read_one_by_one_are_the_samples_read_by_the_chunk(
    write_store: WriteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = write_store(samples=37, run=4, codec="none")
    by_chunk, _ = read(path, epoch(37, 4, 12), 5)
    monkeypatch.setattr("cache.reader.SCATTER_BYTES", 1)
    one_by_one, _ = read(path, epoch(37, 4, 12), 5)
    assert [batch.x.tobytes() for batch in one_by_one] == [batch.x.tobytes() for batch in by_chunk]
    (path / "x" / "c.0.7.0.0.0").write_bytes(b"\0" * (4 * 72 + 4))
    with pytest.raises(CorruptStoreError, match=r"chunk x/c\.0\.7\.0\.0\.0 of .* fails its checksum"):
        read(path, epoch(37, 4, 12), 5)


def test_two_readers_never_write_to_one_ring_at_once(write_store: WriteStore) -> None:
    path, _ = write_store(samples=10, run=4)
    reader = reader_of(path, 8, 4)
    batches = reader.batches(epoch(10, 4, 8))
    next(batches)
    with pytest.raises(RuntimeError, match="batches are being read into this ring already"):
        next(reader.batches(epoch(10, 4, 8)))
    batches.close()
    assert len(list(reader.batches(epoch(10, 4, 8)))) == 3


def test_time_is_told_by_cause(write_store: WriteStore) -> None:
    path, _ = write_store(samples=64, run=4, codec="zstd")
    reader = reader_of(path, 8, 4)
    assert set(reader.timings.waits.values()) == set(reader.timings.work.values()) == {0}
    began = time.perf_counter()
    for _ in reader.batches(epoch(64, 4, 8)):
        pass
    seconds = time.perf_counter() - began
    assert reader.timings.waits.keys() == reader.timings.work.keys() == {"disk", "decode", "gather"}
    assert min(reader.timings.work.values()) > 0
    assert 0 < sum(reader.timings.waits.values()) < seconds


def test_images_of_one_view_answer_for_every_view(write_store: WriteStore) -> None:
    path, x = write_store(samples=4, views=1)
    [batch], _ = read(path, [Window((Run(5, 0, 4),), np.arange(4))], 4)
    assert batch.views.tolist() == [5] * 4
    assert batch.x.tobytes() == x.tobytes()


def test_windows_beyond_the_ring_are_refused_with_both_numbers(write_store: WriteStore) -> None:
    path, _ = write_store(samples=64, run=4)  # 72 bytes a sample
    ring = Ring(aligned_buffer(2 * 32 * 72 - 1))
    with pytest.raises(BudgetError, match=r"need 4608 bytes of host memory, and 4607 are allowed.*window of 28 samp"):
        Reader(Store(path), ring, window_samples=32, batch_size=4)
    Reader(Store(path), ring, window_samples=28, batch_size=4)


def test_window_larger_than_the_store_needs_only_the_store(write_store: WriteStore) -> None:
    path, _ = write_store(samples=10, run=4)
    Reader(Store(path), Ring(aligned_buffer(2 * 10 * 72)), window_samples=10**9, batch_size=5)
    with pytest.raises(BudgetError):
        Reader(Store(path), Ring(aligned_buffer(2 * 10 * 72 - 1)), window_samples=10**9, batch_size=5)


def test_room_for_a_chunk_that_could_not_be_read_is_given_back(write_store: WriteStore) -> None:
    path, _ = write_store(samples=8, run=4)
    (path / "x" / "c.0.1.0.0.0").unlink()
    kept = ChunkCache(4 * 72)
    with pytest.raises(CorruptStoreError, match="is missing"):
        list(reader_of(path, 8, 4, kept=kept).batches([Window((Run(0, 4, 4),), np.arange(4))]))
    assert kept.claim(4 * 72)


def alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cache-reader")]


@pytest.mark.parametrize("taken", [1, 3])
def test_stopping_early_neither_hangs_nor_leaves_threads(write_store: WriteStore, taken: int) -> None:
    path, _ = write_store(samples=64, run=4)
    reader = reader_of(path, 8, 4)
    sizes: list[int] = []

    def consume() -> None:
        batches: Iterator[Batch] = reader.batches(epoch(64, 4, 8))
        with closing(batches):  # type: ignore[type-var]
            sizes.extend(len(next(batches).rows) for _ in range(taken))

    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    consumer.join(timeout=20)
    assert not consumer.is_alive()
    assert sizes == [4] * taken
    assert alive() == []


def test_corrupt_chunk_reaches_the_consumer_by_name(write_store: WriteStore) -> None:
    path, _ = write_store(samples=64, run=4)
    (path / "x" / "c.0.7.0.0.0").write_bytes(b"?")
    with pytest.raises(CorruptStoreError, match=r"chunk x/c\.0\.7\.0\.0\.0 of .* has 1 bytes"):
        read(path, epoch(64, 4, 8), 4)
    assert alive() == []


@pytest.mark.parametrize("run", [Run(0, 2, 4), Run(0, 8, 4), Run(0, 12, 1), Run(0, -4, 4), Run(2, 0, 4), Run(-1, 0, 4)])
def test_run_that_is_not_in_the_store_is_refused(write_store: WriteStore, run: Run) -> None:
    path, _ = write_store(samples=10, run=4, views=2)
    with pytest.raises(ValueError, match="the store has 2 views of 10 samples in chunks of 4"):
        read(path, [Window((run,), np.arange(run.count))], 4)


def test_window_larger_than_the_reader_was_given_is_refused(write_store: WriteStore) -> None:
    path, _ = write_store(samples=64, run=4)
    with pytest.raises(ValueError, match="a window of 12 samples; the reader was given memory for 8"):
        next(reader_of(path, 8, 4).batches(epoch(64, 4, 12)))
