"""Deleting a store: it is whole or does not exist, wherever that is interrupted."""

from pathlib import Path

import pytest

from cache import NoStoreError, Store, remove_store
from tests.conftest import WriteStore


def test_a_deleted_store_is_gone_and_what_lies_beside_it_is_not(write_store: WriteStore, tmp_path: Path) -> None:
    path, other = write_store("one")[0], write_store("other")[0]
    remove_store(path)
    assert not path.exists()
    assert Store(other).samples == 10


def test_the_manifest_is_durably_gone_before_anything_else_is(
    write_store: WriteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = write_store()
    before = {file for file in path.rglob("*") if file.is_file()}
    synced: list[Path] = []

    def interrupted(folder: Path) -> None:
        assert synced == [path]
        assert before - {file for file in path.rglob("*") if file.is_file()} == {path / "manifest.json"}
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cache.removal.sync", synced.append)
        patch.setattr("cache.removal.shutil.rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove_store(path)
    with pytest.raises(NoStoreError):
        Store(path)
    remove_store(path)
    assert not path.exists()


def test_a_store_that_was_never_committed_is_deleted_too(write_store: WriteStore) -> None:
    path, _ = write_store()
    (path / "manifest.json").unlink()
    remove_store(path)
    assert not path.exists()
