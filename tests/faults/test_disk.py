from pathlib import Path

import pytest

from tests.faults.disk import Loss, after
from tests.faults.syscalls import Event

NEW = [
    Event("open", "new"),
    Event("write", "new", nbytes=3),
    Event("fsync", "new", content=b"abc"),
    Event("rename", "new", "file"),
    Event("fsync", "."),
]
"""`file` is replaced."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"old")
    return root


def left(root: Path, events: list[Event], loss: Loss, seed: int = 0) -> dict[str, bytes]:
    """Files after a power cut."""
    folder = root.parent / f"left-{len(list(root.parent.iterdir()))}"
    after(root, events).after_power_cut(folder, loss, seed)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_replaced_file_is_the_old_or_the_new_one_at_every_moment(root: Path) -> None:
    assert left(root, NEW[:2], "all") == {"file": b"old"}
    assert left(root, NEW[:2], "contents") == {"file": b"old", "new": b""}
    assert left(root, NEW[:2], "zeros") == {"file": b"old", "new": b"\0\0\0"}
    assert left(root, NEW[:4], "all") == {"file": b"old"}
    assert left(root, NEW[:4], "contents") == {"file": b"abc"}
    for loss in ("all", "contents", "zeros", "some"):
        assert left(root, NEW, loss) == {"file": b"abc"}


def test_a_file_renamed_before_its_sync_may_be_empty(root: Path) -> None:
    assert left(root, [*NEW[:2], *NEW[3:]], "contents") == {"file": b""}


def test_a_file_in_a_folder_whose_name_is_not_synced_may_vanish(root: Path) -> None:
    within = [
        Event("mkdir", "folder"),
        Event("open", "folder/a"),
        Event("fsync", "folder/a", content=b"a"),
        Event("fsync", "folder"),
    ]
    assert left(root, within, "all") == {"file": b"old"}
    assert left(root, [*within, Event("fsync", ".")], "all") == {"file": b"old", "folder/a": b"a"}


def test_a_deleted_file_may_come_back(root: Path) -> None:
    assert left(root, [Event("unlink", "file")], "all") == {"file": b"old"}
    assert left(root, [Event("unlink", "file"), Event("fsync", ".")], "all") == {}


def test_some_loss_shows_each_state_between(root: Path) -> None:
    found = {tuple(sorted(left(root, NEW[:4], "some", seed).items())) for seed in range(40)}
    assert found == {(("file", b"old"),), (("file", b"old"), ("new", b"abc")), (("file", b"abc"),)}


def test_what_a_power_cut_may_take_is_said_in_words(root: Path) -> None:
    assert after(root, NEW[:2]).volatile() == ["the name new", "the bytes of new"]
    assert after(root, NEW[:4]).volatile() == ["the name file", "the removal of new"]
    assert after(root, NEW).volatile() == []
    assert after(root, NEW).is_durable(Path("file"))
    assert not after(root, NEW[:4]).is_durable(Path("file"))


def test_a_call_that_failed_changes_nothing(root: Path) -> None:
    assert left(root, [Event("unlink", "file", failed=True), Event("fsync", ".")], "all") == {"file": b"old"}
