"""The journal: what it says of a store that is being written, and what it does not say after a failure."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cache import JOURNAL
from cache.journal import Begun, Journal, drop_journal, read_journal
from cache.layout import ChunkRecord

BEGUN = Begun(
    fingerprint={"key": "abc", "index": 1},
    shape=(2, 10, 3, 4, 4),
    chunk_shape=(1, 4, 3, 4, 4),
    encoding="uint8",
    codec="lz4",
    scale_crc32c=7,
    attributes={"codec_reason": "as configured", "ratio": 0.1},
)
CHUNKS = {index: ChunkRecord(100 + index, 2**32 - 1 - index) for index in range(6)}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "x").mkdir()
    return tmp_path


def test_what_is_journaled_is_read_back_by_whoever_goes_on(store: Path) -> None:
    journal = Journal(store, BEGUN, {})
    assert read_journal(store) == (BEGUN, {})
    journal.append({3: CHUNKS[3], 0: CHUNKS[0]})
    journal.append({5: CHUNKS[5]})
    journal.close()
    found = {index: CHUNKS[index] for index in (3, 0, 5)}
    assert read_journal(store) == (BEGUN, found)
    Journal(store, BEGUN, found).close()
    assert read_journal(store) == (BEGUN, found)
    drop_journal(store)
    assert read_journal(store) is None
    drop_journal(store)


def test_a_journal_goes_once_the_manifest_beside_it_is_durable(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(path: Path) -> None:
        assert (path, os.path.lexists(store / JOURNAL)) == (store, True)
        synced.append(path)

    synced: list[Path] = []
    monkeypatch.setattr("cache.journal.sync", watched)
    for is_link in (False, True):
        if is_link:
            (store / JOURNAL).symlink_to(store / "nowhere")
        else:
            (store / JOURNAL).touch()
        drop_journal(store)
        assert not os.path.lexists(store / JOURNAL)
    drop_journal(store)
    assert synced == [store, store]


def test_chunks_are_named_as_they_lie_in_the_store() -> None:
    assert [BEGUN.chunk_name(index) for index in (0, 2, 3, 5)] == [
        f"x/c.{place}.0.0.0" for place in ("0.0", "0.2", "1.0", "1.2")
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 3),
        ("fingerprint", {"key": "abd", "index": 1}),
        ("shape", (2, 11, 3, 4, 4)),
        ("chunk_shape", (1, 5, 3, 4, 4)),
        ("encoding", "identity"),
        ("codec", "zstd"),
        ("scale_crc32c", 8),
    ],
)
def test_a_journal_of_anything_else_is_of_another_store(field: str, value: Any) -> None:
    assert not BEGUN.is_of(msgspec.structs.replace(BEGUN, **{field: value}))


def test_attributes_do_not_make_another_store() -> None:
    assert BEGUN.is_of(msgspec.structs.replace(BEGUN, attributes={}))


def test_a_journal_cut_or_flipped_anywhere_tells_of_whole_batches_alone(store: Path) -> None:
    journal = Journal(store, BEGUN, {})
    for index, chunk in CHUNKS.items():
        journal.append({index: chunk})
    journal.close()
    whole = (store / JOURNAL).read_bytes()
    ends = [len(b"".join(whole.splitlines(keepends=True)[: n + 1])) for n in range(7)]
    for position in range(len(whole)):
        batches = sum(end <= position for end in ends) - 1
        expected = (BEGUN, {index: CHUNKS[index] for index in range(batches)}) if batches >= 0 else None
        for data in (whole[:position], whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :]):
            (store / JOURNAL).write_bytes(data)
            assert read_journal(store) == expected


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 5000, b"00000000 7\n", b"{}\n" * 3])
def test_what_is_no_journal_tells_of_nothing(store: Path, content: bytes) -> None:
    (store / JOURNAL).write_bytes(content)
    assert read_journal(store) is None


def test_a_chunks_name_is_durable_before_it_is_journaled(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, write = os.fsync, os.write

    def watched_fsync(descriptor: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def watched_write(descriptor: int, data: bytes) -> int:
        events.append("write")
        return write(descriptor, data)

    journal = Journal(store, BEGUN, {})
    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "write", watched_write)
    journal.append(CHUNKS)
    assert events == ["sync x", "write", f"sync {JOURNAL}"]


@pytest.mark.parametrize("failing", ["x", JOURNAL])
def test_after_a_failed_fsync_nothing_more_is_added(store: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    journal = Journal(store, BEGUN, {})
    journal.append({0: CHUNKS[0]})
    fsync = os.fsync

    def fails(descriptor: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).name == failing:
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match=f"Input/output error: '{store / failing}'"):
            journal.append({1: CHUNKS[1]})
    size = (store / JOURNAL).stat().st_size
    journal.append({2: CHUNKS[2]})
    assert (store / JOURNAL).stat().st_size == size


def test_a_journal_larger_than_any_is_none(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).touch()
    os.truncate(tmp_path / JOURNAL, 2**40)
    assert read_journal(tmp_path) is None
