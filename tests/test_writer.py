import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import cache.writer
from cache import MANIFEST, NoStoreError, Store, StoreWriter, read_journal, read_manifest
from cache.files import write_synced
from tests.conftest import WriteStore

ROWS = np.arange(10, dtype=np.int64)
X = np.random.default_rng(0).normal(size=(10, 2, 3, 3)).astype(np.float32)


def writer_at(path: Path, **changes: Any) -> StoreWriter:
    """A writer of ten float32 samples in runs of four."""
    arguments: dict[str, Any] = {
        "views": 1,
        "samples": 10,
        "sample_shape": (2, 3, 3),
        "encoding": "float32",
        "codec": "zstd",
        "run": 4,
    }
    return StoreWriter(path, **(arguments | changes))


def write_runs(writer: StoreWriter, *firsts: int) -> None:
    for first in firsts:
        writer.write(0, first, X[first : first + 4])


def test_store_does_not_exist_before_its_commit(tmp_path: Path) -> None:
    with writer_at(tmp_path) as writer:
        write_runs(writer, 0, 4, 8)
        with pytest.raises(NoStoreError):
            Store(tmp_path)
        writer.commit(y=ROWS, sample_id=ROWS)
        assert Store(tmp_path).samples == 10


def test_what_no_journal_names_is_removed(write_store: WriteStore) -> None:
    path, _ = write_store(views=3)
    (path / MANIFEST).unlink()
    (path / "litter").write_bytes(b"?")
    with writer_at(path) as writer:
        write_runs(writer, 0, 4, 8)
        writer.commit(y=ROWS, sample_id=ROWS)
    assert sorted(file.name for file in path.iterdir()) == [MANIFEST, "sample_id", "scale", "x", "y", "zarr.json"]
    assert sorted(file.name for file in (path / "x").glob("c.*")) == [f"c.0.{n}.0.0.0" for n in range(3)]


def test_committed_store_is_never_overwritten(write_store: WriteStore) -> None:
    path, _ = write_store()
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(FileExistsError, match=f"{path} holds a committed store"), writer_at(path):
        pass
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(("firsts", "missing"), [((), 3), ((0, 8), 1), ((0, 4), 1), ((4, 4, 8), 1)])
def test_missing_run_makes_the_commit_fail(tmp_path: Path, firsts: tuple[int, ...], missing: int) -> None:
    path = tmp_path / "store"
    message = f"{missing} of 3 chunks of {path} were never written"
    with pytest.raises(ValueError, match=message), writer_at(path) as writer:  # noqa: PT012
        write_runs(writer, *firsts)
        writer.commit(y=ROWS, sample_id=ROWS)
    assert not (path / MANIFEST).exists()


@pytest.mark.parametrize(("first", "count"), [(2, 4), (1, 1), (0, 3), (0, 5), (4, 2), (8, 4), (8, 1), (12, 4), (-4, 4)])
def test_misaligned_write_is_refused(tmp_path: Path, first: int, count: int) -> None:
    with writer_at(tmp_path / "store") as writer, pytest.raises(ValueError, match=f"samples {first}..*not a run of 4"):
        writer.write(0, first, np.zeros((count, 2, 3, 3), np.float32))


@pytest.mark.parametrize("view", [-1, 1])
def test_view_that_the_store_does_not_have_is_refused(tmp_path: Path, view: int) -> None:
    with writer_at(tmp_path / "store") as writer, pytest.raises(ValueError, match=f"view = {view}: .* views 0..0"):
        writer.write(view, 0, X[:4])


@pytest.mark.parametrize("x", [X[:4].astype(np.float64), X[:4].astype(">f4"), X[:4, :1], X[:4, :, :, :2], X[:4, 0]])
def test_numbers_of_another_type_or_shape_are_refused(tmp_path: Path, x: Any) -> None:
    with writer_at(tmp_path / "store") as writer, pytest.raises(ValueError, match=r"the store takes \(2, 3, 3\) of"):
        writer.write(0, 0, x)


@pytest.mark.parametrize("wrong", [{"y": ROWS[:9]}, {"sample_id": ROWS[:9]}, {"y": ROWS.astype(np.int32)}])
def test_labels_and_ids_that_do_not_fit_the_samples_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with writer_at(tmp_path / "store") as writer:
        write_runs(writer, 0, 4, 8)
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))} is .*; expected \(10,\) of int64"):
            writer.commit(**({"y": ROWS, "sample_id": ROWS} | wrong))
    assert not (tmp_path / "store" / MANIFEST).exists()


def test_scale_of_another_length_than_the_channels_is_refused(tmp_path: Path) -> None:
    with writer_at(tmp_path / "store", scale=np.ones(3, np.float32)) as writer:
        write_runs(writer, 0, 4, 8)
        with pytest.raises(ValueError, match=r"scale is \(3,\) of float32; expected \(2,\)"):
            writer.commit(y=ROWS, sample_id=ROWS)


@pytest.mark.parametrize("size", [{"samples": 0}, {"views": 0}])
def test_store_of_nothing_is_refused(tmp_path: Path, size: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="would hold nothing"):
        writer_at(tmp_path / "store", **size)


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
def test_chunk_of_zeros_is_stored(tmp_path: Path, codec: str) -> None:
    with writer_at(tmp_path, codec=codec) as writer:
        for first in (0, 4, 8):
            writer.write(0, first, np.zeros_like(X[first : first + 4]))
        writer.commit(y=ROWS, sample_id=ROWS)
    assert (read_manifest(tmp_path).arrays["x"].lengths > 0).all()
    assert len(list((tmp_path / "x").glob("c.*"))) == 3
    assert not np.asarray(zarr.open_array(tmp_path / "x", mode="r")).any()


def test_order_of_the_runs_and_number_of_threads_change_no_byte(tmp_path: Path) -> None:
    contents = []
    for name, firsts, threads in (("one", (0, 4, 8), 1), ("other", (8, 0, 4), 4)):
        with writer_at(tmp_path / name, threads=threads) as writer:
            write_runs(writer, *firsts)
            writer.commit(y=ROWS, sample_id=ROWS)
        files = [file for file in (tmp_path / name).rglob("*") if file.is_file()]
        contents.append({file.relative_to(tmp_path / name): file.read_bytes() for file in files})
    assert contents[0] == contents[1]


def test_error_of_a_thread_reaches_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *parts: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(cache.writer, "write_synced", full)
    path = tmp_path / "store"
    with pytest.raises(OSError, match="No space left on device"), writer_at(path) as writer:  # noqa: PT012
        write_runs(writer, 0, 4, 8)
        writer.commit(y=ROWS, sample_id=ROWS)
    assert not (path / MANIFEST).exists()


def test_error_of_a_thread_reaches_a_later_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def fails_once(path: Path, *parts: bytes) -> None:
        written.append(path.name)
        if path.name == "c.0.2.0.0.0":
            raise OSError(5, "Input/output error", str(path))
        write_synced(path, *parts)

    monkeypatch.setattr(cache.writer, "write_synced", fails_once)
    with writer_at(tmp_path / "store", samples=400, threads=1) as writer:
        with pytest.raises(OSError, match=r"Input/output error: .*c\.0\.2\.0\.0\.0"):  # noqa: PT012
            for first in range(0, 400, 4):
                writer.write(0, first, X[:4])
        assert len(written) < 20


def test_a_disk_that_failed_is_asked_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_at_the_third(path: Path, *parts: bytes) -> None:
        if path.name == "c.0.2.0.0.0":
            raise OSError(5, "Input/output error", str(path))
        write_synced(path, *parts)

    monkeypatch.setattr(cache.writer, "write_synced", fails_at_the_third)
    path = tmp_path / "store"
    with pytest.raises(OSError, match="Input/output error"), writer_at(path, threads=1) as writer:  # noqa: PT012
        write_runs(writer, 0, 4, 8)
        writer.commit(y=ROWS, sample_id=ROWS)
    journal = read_journal(path)
    assert journal is not None
    assert journal[1] == {}


def test_folder_removed_while_writing_fails_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with pytest.raises(FileNotFoundError), writer_at(path) as writer:  # noqa: PT012
        path.rename(tmp_path / "gone")
        write_runs(writer, 0, 4, 8)
        writer.commit(y=ROWS, sample_id=ROWS)
    with pytest.raises(NoStoreError):
        Store(tmp_path / "gone")


def test_at_most_four_chunks_a_thread_wait_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write = threading.Semaphore(0)

    def slow(path: Path, *parts: bytes) -> None:
        assert may_write.acquire(timeout=20)
        write_synced(path, *parts)

    monkeypatch.setattr(cache.writer, "write_synced", slow)
    with writer_at(tmp_path / "store", samples=400, threads=2) as writer:
        handed_over = []

        def hand_over() -> None:
            for first in range(0, 400, 4):
                writer.write(0, first, X[:4])
                handed_over.append(first)

        thread = threading.Thread(target=hand_over)
        thread.start()
        while len(handed_over) < 8:
            time.sleep(0.01)
        thread.join(timeout=0.2)
        assert thread.is_alive()
        assert len(handed_over) == 8
        may_write.release(200)
        thread.join(timeout=20)
        assert len(handed_over) == 100


def test_a_run_that_is_handed_over_twice_is_written_once(tmp_path: Path) -> None:
    with writer_at(tmp_path / "store", threads=4) as writer:
        for _ in range(20):
            write_runs(writer, 0, 4)
        writer.write(0, 4, np.zeros_like(X[4:8]))
        write_runs(writer, 8)
        writer.commit(y=ROWS, sample_id=ROWS)
    assert np.asarray(zarr.open_array(tmp_path / "store" / "x", mode="r")).tobytes() == X.tobytes()
