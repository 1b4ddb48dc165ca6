import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cache.files
from cache import MANIFEST, StoreWriter, replace_file


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


def test_short_writes_of_the_system_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ShortFile(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:3])

    monkeypatch.setattr(cache.files, "open", lambda path, mode, buffering: ShortFile(path, mode), raising=False)
    cache.files.write_synced(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


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
        writer.commit(y=rows, sample_id=rows, attributes={})
    committed = events.index(f"-> {path / MANIFEST}")
    expected = {str(file) for file in (tmp_path, path, *path.rglob("*")) if file.name != MANIFEST}
    assert len(expected) == 2 + 4 + 5 + 5  # folders, arrays, zarr.json files, chunks
    assert expected <= set(events[:committed])
    for array in ("x", "y", "sample_id", "scale"):  # the names of chunks after their bytes
        chunks = [i for i, event in enumerate(events) if event.startswith(f"{path / array}/")]
        assert max(chunks) < events.index(str(path / array))
