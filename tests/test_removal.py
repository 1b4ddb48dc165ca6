"""Deleting a folder: it is whole or not there, wherever that is interrupted."""

import os
from pathlib import Path

import pytest

from cache import NoStoreError, Store, remove_folder, sweep_removed
from tests.conftest import WriteStore


def test_a_deleted_store_is_gone_and_what_lies_beside_it_is_not(write_store: WriteStore, tmp_path: Path) -> None:
    path, other = write_store("one")[0], write_store("other")[0]
    remove_folder(path)
    assert list(tmp_path.iterdir()) == [other]
    assert Store(other).samples == 10


def test_a_folder_is_durably_gone_from_its_place_before_anything_in_it_is(
    write_store: WriteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = write_store()
    aside = tmp_path / ".store.removed"
    before = {file.relative_to(path) for file in path.rglob("*")}
    synced: list[Path] = []

    def interrupted(folder: Path) -> None:
        assert folder == aside
        assert synced == [tmp_path]
        assert {file.relative_to(aside) for file in aside.rglob("*")} == before
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cache.removal.sync", synced.append)
        patch.setattr("cache.removal.shutil.rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(path)
    with pytest.raises(NoStoreError):
        Store(path)
    sweep_removed(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_an_interrupted_removal_left_is_in_nobodys_way(write_store: WriteStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for left in ("folder", "file", "link"):
        path, aside = write_store(f"of a {left}")[0], tmp_path / f".of a {left}.removed"
        if left == "folder":
            (aside / "x").mkdir(parents=True)
            (aside / "x" / "c.0").write_bytes(b"x")
        elif left == "file":
            aside.write_bytes(b"x")
        else:
            aside.symlink_to(outside)
        remove_folder(path)
        assert list(tmp_path.iterdir()) == [outside]


def test_what_is_left_of_a_removal_is_deleted_where_it_is(tmp_path: Path) -> None:
    aside = tmp_path / ".store.removed"
    aside.mkdir()
    remove_folder(aside)
    assert list(tmp_path.iterdir()) == []


def test_what_another_command_renamed_is_durably_gone_before_anything_in_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    (tmp_path / ".store.removed/x").mkdir(parents=True)
    monkeypatch.setattr("cache.removal.sync", fails)
    with pytest.raises(OSError, match="Input/output error"):
        sweep_removed(tmp_path)
    assert (tmp_path / ".store.removed/x").is_dir()


def test_a_link_in_the_place_of_a_folder_is_deleted_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "elsewhere")
    remove_folder(tmp_path / "store")
    assert os.listdir(tmp_path) == ["elsewhere"]


def test_nothing_is_swept_but_removals(write_store: WriteStore, tmp_path: Path) -> None:
    path, _ = write_store()
    (tmp_path / ".other.repair").mkdir()
    sweep_removed(tmp_path)
    sweep_removed(tmp_path / "none")
    assert {one.name for one in tmp_path.iterdir()} == {path.name, ".other.repair"}
