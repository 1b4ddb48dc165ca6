import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cache import Batch, BudgetError, CorruptStoreError, Reader, Run, Store, Window
from tests.conftest import WriteStore

PLENTY = 2**30
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
    """All batches, and their sizes."""
    window_samples = max(sum(r.count for r in window.runs) for window in windows)
    reader = Reader(Store(path), window_samples=window_samples, memory_bytes=PLENTY, threads=threads)
    batches = list(reader.batches(windows, batch_size))
    return batches, [len(batch.rows) for batch in batches]


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
    reads: Counter[tuple[int, int]] = Counter()
    read_chunk = Store.read_chunk

    def counted(store: Store, view: int, number: int, dest: NDArray[Any]) -> None:
        reads[view, number] += 1
        read_chunk(store, view, number, dest)

    monkeypatch.setattr(Store, "read_chunk", counted)
    read(path, windows, 5)
    assert reads == Counter((run.view, run.first // 4) for window in windows for run in window.runs)
    assert set(reads.values()) == {1}
    assert len(reads) == 10


def test_number_of_threads_changes_no_batch(write_store: WriteStore) -> None:
    path, _ = write_store(samples=64, run=4)
    one, four = (read(path, epoch(64, 4, 16), 7, threads=threads)[0] for threads in (1, 4))
    assert [(a.x.tobytes(), a.rows.tolist()) for a in one] == [(b.x.tobytes(), b.rows.tolist()) for b in four]


def test_batch_stays_valid_after_later_ones_are_drawn(write_store: WriteStore) -> None:
    path, x = write_store(samples=64, run=4)
    reader = Reader(Store(path), window_samples=8, memory_bytes=PLENTY)
    taken = list(reader.batches(epoch(64, 4, 8), 4))
    taken[0].x[:] = 7  # and belongs to whoever took it
    for batch in taken[1:]:
        assert batch.x.tobytes() == x[0, batch.rows].tobytes()


def test_images_of_one_view_answer_for_every_view(write_store: WriteStore) -> None:
    path, x = write_store(samples=4, views=1)
    [batch], _ = read(path, [Window((Run(5, 0, 4),), np.arange(4))], 4)
    assert batch.views.tolist() == [5] * 4
    assert batch.x.tobytes() == x.tobytes()


def test_windows_beyond_the_budget_are_refused_with_both_numbers(write_store: WriteStore) -> None:
    path, _ = write_store(samples=64, run=4)  # 72 bytes a sample
    Reader(Store(path), window_samples=32, memory_bytes=2 * 32 * 72)
    with pytest.raises(
        BudgetError, match=r"need 4608 bytes of host memory, and 4607 are allowed.*window of 28 samples"
    ):
        Reader(Store(path), window_samples=32, memory_bytes=2 * 32 * 72 - 1)
    Reader(Store(path), window_samples=28, memory_bytes=2 * 32 * 72 - 1)


def test_window_larger_than_the_store_needs_only_the_store(write_store: WriteStore) -> None:
    path, _ = write_store(samples=10, run=4)
    Reader(Store(path), window_samples=10**9, memory_bytes=2 * 12 * 72)
    with pytest.raises(BudgetError):
        Reader(Store(path), window_samples=10**9, memory_bytes=2 * 12 * 72 - 1)


def test_memory_of_an_epoch_stays_near_two_windows_whatever_the_store(write_store: WriteStore) -> None:
    path, _ = write_store(samples=512, run=4, shape=(4, 32, 32), codec="lz4")
    store, chunk = Store(path), 4 * 4 * 32 * 32 * 4
    budget = 2 * 4 * chunk
    assert 512 * store.sample_bytes > 15 * budget
    reader = Reader(store, window_samples=16, memory_bytes=budget)
    tracemalloc.start()
    try:
        for batch in reader.batches(epoch(512, 4, 16), 4):
            assert len(batch.x) == 4
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert budget < peak < budget + 8 * chunk  # stored bytes in two threads, and the batches in hand


def alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cache-reader")]


@pytest.mark.parametrize("taken", [1, 3])
def test_stopping_early_neither_hangs_nor_leaves_threads(write_store: WriteStore, taken: int) -> None:
    path, _ = write_store(samples=64, run=4)
    reader = Reader(Store(path), window_samples=8, memory_bytes=PLENTY)
    sizes: list[int] = []

    def consume() -> None:
        batches: Iterator[Batch] = reader.batches(epoch(64, 4, 8), 4)
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
    reader = Reader(Store(path), window_samples=8, memory_bytes=PLENTY)
    with pytest.raises(ValueError, match="takes up 12 samples in whole chunks; the reader was given 8"):
        next(reader.batches(epoch(64, 4, 12), 4))
