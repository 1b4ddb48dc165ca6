"""The journal of a store that is being written: what of it is durable, so that an interrupted write goes on.

A line of JSON for each batch of chunks, added once their bytes and names are durable, and before all of them one that
says what is written. Each line begins with its own checksum: a torn end, as a power cut leaves it, is known and
dropped.
"""

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from cache.codecs import CodecName, checksum
from cache.errors import CorruptStoreError
from cache.files import append_synced, replace_file, sync
from cache.layout import FORMAT, JOURNAL, MANIFEST_BYTES, ChunkRecord, chunk_key
from cache.manifest import Crc32c, Fingerprint, Length
from cache.place import Folder

FRAME_BYTES = 9
"""Before the JSON of a line: its checksum in hexadecimal digits, and a space."""
Batch = list[tuple[Length, Length, Crc32c]]
"""Chunks of x: index in the chunk table, length, crc32c."""


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: what is being written."""

    format: int = FORMAT
    """Version of the layout."""
    fingerprint: Fingerprint
    """What determines the numbers."""
    shape: tuple[int, ...]
    """Of x."""
    chunk_shape: tuple[int, ...]
    """Of x."""
    encoding: str
    """How activations become stored numbers."""
    codec: CodecName
    """How these become bytes."""
    scale_crc32c: Crc32c
    """Of the scale's bytes."""
    attributes: dict[str, Any]
    """For a reader of the store alone. All else must be the same for a write to go on from here."""

    @property
    def chunks_per_view(self) -> int:
        """Chunks of x in a view."""
        return -(-self.shape[1] // self.chunk_shape[1])

    def chunk_name(self, index: int) -> str:
        """The name in the store of the chunk of x that stands at `index` in the chunk table."""
        return f"x/{chunk_key(*divmod(index, self.chunks_per_view), 0, 0, 0)}"

    def is_of(self, other: "Begun") -> bool:
        """Whether chunks of one may stand beside chunks of the other."""
        return msgspec.structs.replace(self, attributes={}) == msgspec.structs.replace(other, attributes={})


class Journal:
    """An open journal. Threads may append at once."""

    def __init__(self, store: Path, begun: Begun, chunks: Mapping[int, ChunkRecord]) -> None:
        """Begin one anew, with chunks that are there already, in place of what there is."""
        self._chunks = store / "x"
        self._path = store / JOURNAL
        kept = [(index, chunk.length, chunk.crc32c) for index, chunk in chunks.items()]
        replace_file(self._path, _line(begun), *([_line(kept)] if kept else []))
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        self._appending = threading.Lock()
        self._failed = False

    def append(self, batch: Mapping[int, ChunkRecord]) -> None:
        """Add chunks whose bytes are durable, once their names are.

        Nothing more is added after a failure: what the system then has on the disk is not known, and what it says of a
        second try is not to be believed. The next attempt begins another journal.
        """
        with self._appending:
            if self._failed or not batch:
                return
            self._failed = True
            sync(self._chunks)
            line = _line([(index, chunk.length, chunk.crc32c) for index, chunk in batch.items()])
            append_synced(self._descriptor, self._path, line)
            self._failed = False

    def close(self) -> None:
        """Leave it to whoever goes on."""
        os.close(self._descriptor)


def read_journal(store: Path) -> tuple[Begun, dict[int, ChunkRecord]] | None:
    """What is being written at a path, and the chunks of it that were journaled; None where nothing that this version
    could go on with is."""
    try:
        with Folder(store).open(JOURNAL, MANIFEST_BYTES) as file:
            lines = _sound(file.lines())
            begun = next(lines, None)
            if begun is None:
                return None
            chunks = [chunk for line in lines for chunk in msgspec.json.decode(line, type=Batch)]
            found = msgspec.json.decode(begun, type=Begun)
    except PermissionError:
        raise
    except (OSError, CorruptStoreError, RecursionError, msgspec.MsgspecError):
        return None
    return found, {index: ChunkRecord(length, crc32c) for index, length, crc32c in chunks}


def drop_journal(store: Path) -> None:
    """Remove the journal of a committed store, once the name of the manifest is durable: a process that was killed, or
    whose disk failed, may have left both."""
    journal = store / JOURNAL
    if os.path.lexists(journal):
        sync(store)
        journal.unlink(missing_ok=True)


def _line(content: Any) -> bytes:
    return _framed(msgspec.json.encode(content))


def _framed(body: bytes) -> bytes:
    return b"%08x %b\n" % (checksum([body]), body)


def _sound(lines: list[bytes]) -> Iterator[bytes]:
    """The JSON of lines up to the first that is torn."""
    for line in lines:
        body = line[FRAME_BYTES:-1]
        if line != _framed(body):
            return
        yield body
