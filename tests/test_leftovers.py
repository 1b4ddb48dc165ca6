"""A write that was interrupted goes on from what is journaled, and ends in the bytes of one that was not."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cache.writer
from cache import JOURNAL, MANIFEST, Store, StoreWriter, read_journal
from tests.conftest import BadSector

SAMPLES, RUN, VIEWS = 22, 4, 2
SHAPE = (2, 3, 3)
X = np.random.default_rng(0).normal(size=(VIEWS, SAMPLES, *SHAPE)).astype(np.float32)
ROWS = np.arange(SAMPLES, dtype=np.int64)


def writer_at(path: Path, **changes: Any) -> StoreWriter:
    arguments: dict[str, Any] = {
        "views": VIEWS,
        "samples": SAMPLES,
        "sample_shape": SHAPE,
        "encoding": "float32",
        "codec": "lz4",
        "run": RUN,
        "scale": np.ones(2, np.float32),
        "fingerprint": {"key": "one"},
        "attributes": {"a": 1},
    }
    return StoreWriter(path, **(arguments | changes))


def go_on(writer: StoreWriter, *, runs: int | None = None) -> list[tuple[int, int]]:
    """Write the runs that are missing, or so many of them; returns which."""
    written: list[tuple[int, int]] = []
    for view in range(VIEWS):
        for start, stop in writer.missing(view):
            for first in range(start, stop, RUN):
                if len(written) == runs:
                    return written
                writer.write(view, first, X[view, first : min(first + RUN, stop)])
                written.append((view, first))
    return written


def commit(path: Path, **changes: Any) -> list[tuple[int, int]]:
    """Go on to the end and commit; returns the runs that were written."""
    with writer_at(path, **changes) as writer:
        written = go_on(writer)
        writer.commit(y=ROWS, sample_id=ROWS)
    return written


def bytes_at(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


ALL = [(view, first) for view in range(VIEWS) for first in range(0, SAMPLES, RUN)]


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    assert commit(tmp_path / "whole") == ALL
    return bytes_at(tmp_path / "whole")


@pytest.mark.parametrize("runs", range(len(ALL) + 1))
@pytest.mark.parametrize("threads", [1, 3])
def test_a_write_stopped_after_any_run_goes_on_there(
    tmp_path: Path, whole: dict[str, bytes], runs: int, threads: int
) -> None:
    path = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt), writer_at(path, threads=threads) as writer:  # noqa: PT012
        go_on(writer, runs=runs)
        for future in writer._waiting:
            future.result()
        raise KeyboardInterrupt
    assert not (path / MANIFEST).exists()
    assert commit(path, threads=threads) == ALL[runs:]
    assert bytes_at(path) == whole


def test_a_process_that_died_loses_what_is_not_journaled_and_no_more(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.writer, "BATCH_CHUNKS", 3)
    path = tmp_path / "store"
    writer = writer_at(path, threads=1).__enter__()
    go_on(writer, runs=8)
    writer._pool.shutdown(wait=True)  # and nothing after: no one leaves the context
    found = read_journal(path)
    assert found is not None
    assert sorted(found[1]) == [0, 1, 2, 3, 4, 5]
    assert len(list((path / "x").glob("c.*"))) == 8
    assert commit(path) == ALL[6:]
    assert bytes_at(path) == whole


def test_a_chunk_is_journaled_once_its_bytes_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(cache.writer, "BATCH_CHUNKS", 1)
    with writer_at(tmp_path / "store", threads=1) as writer:
        monkeypatch.setattr(os, "fsync", watched)
        go_on(writer, runs=2)
        for future in writer._waiting:
            future.result()
    assert synced == ["c.0.0.0.0.0", "x", JOURNAL, "c.0.1.0.0.0", "x", JOURNAL]


def interrupted(path: Path, runs: int = 9) -> None:
    with writer_at(path) as writer:
        go_on(writer, runs=runs)
        for future in writer._waiting:
            future.result()


@pytest.mark.parametrize(("name", "rewritten"), [("x/c.0.1.0.0.0", [(0, 4)]), (JOURNAL, ALL)])
def test_what_a_bad_sector_took_is_written_again(
    tmp_path: Path, whole: dict[str, bytes], bad_sector: BadSector, name: str, rewritten: list[tuple[int, int]]
) -> None:
    path = tmp_path / "store"
    interrupted(path, len(ALL))
    bad_sector(path / name)
    assert commit(path) == rewritten
    assert bytes_at(path) == whole


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove", "swap", "link", "folder"])
def test_a_journaled_chunk_that_is_not_as_it_was_is_written_again(
    tmp_path: Path, whole: dict[str, bytes], damage: str
) -> None:
    path = tmp_path / "store"
    interrupted(path)
    file, other = path / "x" / "c.0.1.0.0.0", path / "x" / "c.1.2.0.0.0"
    data = file.read_bytes()
    rewritten = [(0, 4)]
    match damage:
        case "flip":
            file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "cut":
            file.write_bytes(data[:-1])
        case "empty":
            file.write_bytes(b"")
        case "remove":
            file.unlink()
        case "swap":
            file.write_bytes(other.read_bytes())
            other.write_bytes(data)
            rewritten.append((1, 8))
        case "link":
            file.rename(tmp_path / "elsewhere")
            file.symlink_to(tmp_path / "elsewhere")
        case "folder":
            file.unlink()
            file.mkdir()
    assert commit(path) == sorted([*rewritten, *ALL[9:]])
    assert bytes_at(path) == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": {"key": "other"}},
        {"codec": "zstd"},
        {"samples": SAMPLES - 1},
        {"run": 2},
        {"encoding": "float16"},
        {"scale": np.full(2, 2, np.float32)},
    ],
)
def test_what_was_begun_as_anything_else_is_discarded(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "store"
    interrupted(path)
    with writer_at(path, **changes) as writer:
        assert writer.written_chunks == 0
        assert not list((path / "x").iterdir())


def test_what_the_journal_does_not_name_is_removed(tmp_path: Path, whole: dict[str, bytes]) -> None:
    path = tmp_path / "store"
    interrupted(path)
    (path / "x" / "c.1.5.0.0.0").write_bytes(b"written, not journaled")
    (path / "x" / ".c.0.0.0.0.0.new").write_bytes(b"litter")
    (path / ".manifest.json.new").write_bytes(b"litter")
    (path / "y").mkdir()
    (path / "y" / "c.0").write_bytes(b"of a commit that was cut")
    (path / "link").symlink_to(tmp_path)
    with writer_at(path):
        files = {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()}
        assert files == {JOURNAL, *(name for name in whole if name in {f"x/c.{v}.{n}.0.0.0" for v, n in names(9)})}
    assert commit(path) == ALL[9:]
    assert bytes_at(path) == whole


def names(runs: int) -> list[tuple[int, int]]:
    return [(view, first // RUN) for view, first in ALL[:runs]]


def test_a_run_of_several_chunks_is_there_when_all_of_them_are(tmp_path: Path) -> None:
    path = tmp_path / "store"
    large = {"views": 1, "samples": 10, "sample_shape": (1, 1024, 1024), "encoding": "uint8", "scale": None}
    with writer_at(path, **large, run=10) as writer:
        assert writer.chunk_samples == 5
        writer.write(0, 0, np.zeros((10, 1, 1024, 1024), np.uint8))
    (path / "x" / "c.0.1.0.0.0").unlink()
    with writer_at(path, **large, run=10) as writer:
        assert writer.written_chunks == 1
        assert list(writer.missing(0)) == [(0, 10)]


def test_attributes_are_those_of_the_attempt_that_commits(tmp_path: Path) -> None:
    path = tmp_path / "store"
    interrupted(path)
    assert commit(path, attributes={"a": 2}) == ALL[9:]
    assert Store(path).attributes["a"] == 2


def test_a_write_that_a_full_disk_stopped_goes_on(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.writer, "BATCH_CHUNKS", 2)
    path, write, left = tmp_path / "store", os.write, 2500

    def full(descriptor: int, data: Any) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(28, "No space left on device")
        left -= len(data)
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match=f"No space left on device: '{path}"):
            commit(path, threads=1)
    again = commit(path)
    assert again == ALL[len(ALL) - len(again) :]
    assert 0 < len(again) < len(ALL)
    assert bytes_at(path) == whole
