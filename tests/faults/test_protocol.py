from pathlib import Path

import pytest

from cache import MANIFEST
from tests.faults.protocol import breaches, reuses
from tests.faults.syscalls import Event


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A committed store, a stage in training, and a stage that is done."""
    for path in ("store/c.0", f"store/{MANIFEST}", "0/checkpoint.safetensors", "1/stage.json", "1/checkpoint"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    return tmp_path


def write(path: str) -> list[Event]:
    return [Event("open", path), Event("write", path, nbytes=1), Event("fsync", path, content=b"x")]


def replace(path: str) -> list[Event]:
    return [*write("new"), Event("rename", "new", path), Event("fsync", str(Path(path).parent)), Event("fsync", ".")]


def test_replacing_a_file_and_deleting_a_checkpoint_that_is_succeeded_is_right(root: Path) -> None:
    assert breaches(root, [*replace("1/a"), Event("unlink", "1/checkpoint"), Event("fsync", "1")]) == []


def test_a_name_before_the_bytes_is_found(root: Path) -> None:
    events = replace("file")
    assert breaches(root, [*events[:2], *events[3:]]) == [
        "call 2: new gets the name file before its bytes are synced",
        "after the last call, 4: the bytes of file may be lost",
    ]


def test_a_name_that_is_never_synced_is_found(root: Path) -> None:
    assert breaches(root, replace("file")[:-2]) == ["after the last call, 3: the name file may be lost"]


def test_a_manifest_before_its_chunks_is_found(root: Path) -> None:
    chunk = [Event("mkdir", "other"), *write("other/c.0"), *write("other/.new")]
    events = [*chunk, Event("rename", "other/.new", f"other/{MANIFEST}")]
    first, *_ = breaches(root, events)
    assert first == f"call 7: other/{MANIFEST} is put in place while the name c.0 may be lost"
    events = [*chunk, Event("fsync", "other"), events[-1], Event("fsync", "other"), Event("fsync", ".")]
    assert breaches(root, events) == []


def test_a_chunk_deleted_before_its_manifest_is_found(root: Path) -> None:
    gone = [Event("unlink", f"store/{MANIFEST}"), Event("fsync", "store")]
    chunk = [Event("unlink", "store/c.0"), Event("fsync", "store")]
    assert breaches(root, [*gone, *chunk]) == []
    for events in ([*chunk, *gone], [gone[0], *chunk]):
        assert "c.0 is deleted while" in breaches(root, events)[0]


def test_a_chunk_deleted_before_its_stores_folder_is_durably_renamed_is_found(root: Path) -> None:
    aside = [Event("rename", "store", ".store.removed"), Event("fsync", ".")]
    chunk = [Event("unlink", ".store.removed/c.0"), Event("fsync", ".store.removed")]
    assert breaches(root, [*aside, *chunk]) == []
    assert "c.0 is deleted while" in breaches(root, [aside[0], *chunk, aside[1]])[0]


def test_a_checkpoint_deleted_before_its_successor_is_found(root: Path) -> None:
    (what, *_) = breaches(root, [Event("unlink", "0/checkpoint.safetensors"), Event("fsync", "0")])
    assert what == "call 0: 0/checkpoint.safetensors is deleted before what succeeds it is durable"


def test_a_file_whose_sync_failed_may_not_be_used_again() -> None:
    failed = [Event("open", "b"), Event("rename", "b", "a"), Event("fsync", "a", failed=True)]
    assert reuses([failed, [Event("open", "a")]]) == ["open of a after its sync failed"]
    assert reuses([[*failed, Event("rename", "a", "b")]]) == ["rename of a after its sync failed"]
    assert reuses([[*failed, Event("unlink", "a"), Event("open", "a"), Event("fsync", "a")]]) == []
    assert reuses([failed, [Event("open", "a", is_new=True), Event("fsync", "a")]]) == []
    assert reuses([failed, [*replace("a"), Event("open", "a"), Event("fsync", "a")]]) == []


def test_a_folder_may_be_synced_again() -> None:
    assert reuses([[Event("mkdir", "a"), Event("fsync", "a", failed=True)], [Event("fsync", "a")]]) == []
