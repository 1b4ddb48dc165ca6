import os
from pathlib import Path

import numpy as np
import pytest

from cache import JOURNAL, MANIFEST, StoreWriter, replace_file
from cache.files import make_folder, write_synced


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths as they are synced, and "-> path" where a file is renamed into place."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        seen.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def watched_replace(source: Path, target: Path) -> None:
        seen.append(f"-> {target}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    return seen


def test_replaced_file_has_the_new_content_and_leaves_no_other(tmp_path: Path) -> None:
    for data in (b"old", b"", b"new" * 10**6):
        replace_file(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
        assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_old_file_stays_whole_when_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    replace_file(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_file_that_cannot_take_its_place_is_removed(tmp_path: Path) -> None:
    (tmp_path / "file/within").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r"file\.new"):
        replace_file(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_short_writes_of_the_system_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_synced(tmp_path / "file", b"0123456", b"789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_a_file_is_always_a_new_one_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    for name, prepare in (("hard", os.link), ("soft", os.symlink)):
        prepare(tmp_path / "other", tmp_path / name)
        write_synced(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
        assert (tmp_path / "other").read_bytes() == b"other"


def test_a_file_that_cannot_be_made_durable_is_removed_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=f"Input/output error: '{tmp_path / 'file'}'"):
        write_synced(tmp_path / "file", b"new")
    assert not list(tmp_path.iterdir())


def test_every_new_folder_is_made_durable_in_the_one_above(tmp_path: Path, events: list[str]) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert events == [str(tmp_path.parent), str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    make_folder(tmp_path / "a" / "b")
    assert len(events) == 4


def test_a_folder_that_a_killed_attempt_left_is_made_durable_once_a_process(tmp_path: Path, events: list[str]) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
        make_folder(tmp_path / "a" / "b" / "c")
    assert events == [str(tmp_path / "a"), str(tmp_path / "a" / "b")]


def test_a_folder_whose_sync_failed_is_synced_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output error"):
            make_folder(tmp_path / "a")
        with pytest.raises(OSError, match="Input/output error"):
            make_folder(tmp_path / "a")
    make_folder(tmp_path / "a")


def test_above_a_run_folder_nothing_has_to_be_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("cache.files.sync", refuses)
        make_folder(tmp_path)
        with pytest.raises(PermissionError, match="Permission denied"):
            make_folder(tmp_path / "a")


def test_file_is_durable_before_its_name_and_its_name_before_the_return(tmp_path: Path, events: list[str]) -> None:
    replace_file(tmp_path / "file", b"new")
    assert events == [str(tmp_path / ".file.new"), f"-> {tmp_path / 'file'}", str(tmp_path)]


def test_commit_makes_every_file_and_folder_durable_before_the_manifest(tmp_path: Path, events: list[str]) -> None:
    path, rows = tmp_path / "store", np.arange(10, dtype=np.int64)
    with StoreWriter(
        path, views=1, samples=10, sample_shape=(2, 3, 3), encoding="uint8", codec="none", run=5
    ) as writer:
        for first in (0, 5):
            writer.write(0, first, np.ones((5, 2, 3, 3), np.uint8))
        writer.commit(y=rows, sample_id=rows)
    committed = events.index(f"-> {path / MANIFEST}")
    expected = {str(file) for file in (tmp_path, path, *path.rglob("*")) if file.name != MANIFEST}
    assert not (path / JOURNAL).exists()
    assert len(expected) == 2 + 4 + 5 + 5  # folders, arrays, zarr.json files, chunks
    assert expected <= set(events[:committed])
    for array in ("x", "y", "sample_id", "scale"):  # the names of chunks after their bytes
        chunks = [i for i, event in enumerate(events) if event.startswith(f"{path / array}/")]
        assert max(chunks) < max(i for i in range(committed) if events[i] == str(path / array))
