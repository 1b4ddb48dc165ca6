"""The commit record of a store, in three lines of JSON.

1. the format, and the checksum of line 2
2. the summary: fingerprint, bytes, number of chunks, the text of every zarr.json, and the checksum of line 3
3. the chunk table: for each array, the lengths and the checksums of its chunks

So no byte of a store, nor of this file, can change unnoticed; and who only wants the summary reads two lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import zarr.abc.store
from numpy.typing import NDArray

from cache.codecs import checksum
from cache.errors import CorruptStoreError, FormatError, NoStoreError
from cache.layout import FORMAT, MANIFEST, MANIFEST_BYTES, METADATA, SMALL_ARRAYS, ChunkRecord, chunk_key
from cache.metadata import ArrayMetadata, GroupMetadata, decode_metadata
from cache.place import Folder, place_of

Fingerprint = dict[str, Any]
"""What determined the numbers of a store, by name."""

Length = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Crc32c = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class Version(msgspec.Struct, frozen=True):
    """All that is read of a manifest before its format is known."""

    format: Any = None
    """Version of the layout; of any type, for it may be any version."""


class Head(msgspec.Struct, frozen=True):
    """Line 1."""

    format: int
    """Version of the layout."""
    crc32c: Crc32c
    """Of line 2."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Line 2."""

    fingerprint: Fingerprint
    """What determined the numbers of the store."""
    nbytes: Length
    """Bytes of all chunks on disk."""
    chunks: dict[str, Length]
    """Array name -> number of its chunks."""
    metadata: dict[str, str]
    """Name of each metadata file -> its text, from which a damaged one is made again."""
    table_crc32c: Crc32c
    """Of line 3."""


@dataclass(frozen=True)
class Chunks:
    """The chunks of one array, in C order of the chunk grid."""

    lengths: NDArray[np.int64]
    """Bytes of each one's file."""
    crc32c: NDArray[np.int64]
    """Of each one's bytes without the codec's trailer."""

    @classmethod
    def of(cls, records: Sequence[ChunkRecord]) -> "Chunks":
        """As a table."""
        rows = np.array([(record.length, record.crc32c) for record in records], np.int64).reshape(-1, 2)
        return cls(rows[:, 0], rows[:, 1])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> ChunkRecord:
        return ChunkRecord(int(self.lengths[index]), int(self.crc32c[index]))


@dataclass(frozen=True)
class Manifest:
    """What was committed."""

    path: Path
    """The store's, as a user knows it."""
    summary: Summary
    arrays: dict[str, Chunks]
    """Array name -> its chunks."""

    @cached_property
    def group(self) -> GroupMetadata:
        """What the group's metadata says. Raises CorruptStoreError where that is nothing cascade writes."""
        return decode_metadata(self.summary.metadata["zarr.json"], GroupMetadata, named=self.path / "zarr.json")

    def array(self, name: str) -> ArrayMetadata:
        """What the metadata of an array says. Raises like `group`."""
        text = self.summary.metadata[f"{name}/zarr.json"]
        return decode_metadata(text, ArrayMetadata, named=self.path / name / "zarr.json")

    @cached_property
    def chunks_per_view(self) -> int:
        """Chunks of x in a view. Raises CorruptStoreError where they are not runs of samples."""
        x = self.array("x")
        if not len(x.shape) == len(x.chunk_shape) == 5:
            raise CorruptStoreError(f"{self.path}: x has shape {x.shape} in chunks of {x.chunk_shape}, not five axes")
        return -(-x.shape[1] // x.chunk_shape[1])

    def chunk_name(self, array: str, index: int) -> str:
        """The name in the store of the chunk that stands at `index` in the table."""
        place = (*divmod(index, self.chunks_per_view), 0, 0, 0) if array == "x" else (0,)
        return f"{array}/{chunk_key(*place)}"


def encode_manifest(fingerprint: Fingerprint, metadata: dict[str, str], arrays: dict[str, Chunks]) -> bytes:
    """The bytes of the manifest of a store."""
    table = _line({name: (chunks.lengths.tolist(), chunks.crc32c.tolist()) for name, chunks in arrays.items()})
    summary = Summary(
        fingerprint=fingerprint,
        nbytes=sum(int(chunks.lengths.sum()) for chunks in arrays.values()),
        chunks={name: len(chunks) for name, chunks in arrays.items()},
        metadata=metadata,
        table_crc32c=checksum([table]),
    )
    line = _line(summary)
    return _line(Head(FORMAT, checksum([line]))) + line + table


def read_manifest(where: Path | zarr.abc.store.Store) -> Manifest:
    """The manifest of the store in a folder, or in a store of zarr-python.

    Raises NoStoreError where there is none, CorruptStoreError where it is damaged, FormatError where it is of another
    format.
    """
    path = where if isinstance(where, Path) else Path(str(where))
    try:
        data = place_of(where).read(MANIFEST, MANIFEST_BYTES)
    except FileNotFoundError:
        raise NoStoreError(f"{where} holds no committed store") from None
    head, _, body = data.partition(b"\n")
    line, _, table = body.partition(b"\n")
    summary = _summary(path, head + b"\n", line + b"\n")
    if checksum([table]) != summary.table_crc32c:
        raise _damaged(path, "the chunk table fails its checksum")
    return Manifest(path, summary, _arrays(path, summary, table))


def read_summary(path: Path) -> Summary:
    """The summary of the store in a folder, without its chunk table. Raises like `read_manifest`."""
    try:
        with Folder(path).open(MANIFEST, MANIFEST_BYTES) as file:
            head, line = (*file.lines(2), b"", b"")[:2]
    except FileNotFoundError:
        raise NoStoreError(f"{path} holds no committed store") from None
    return _summary(path, head, line)


def committed_bytes(path: Path) -> int:
    """Bytes of all files of the store in a folder, its manifest included. Raises like `read_manifest`."""
    summary = read_summary(path)
    texts = sum(len(text.encode()) for text in summary.metadata.values())
    return summary.nbytes + texts + (path / MANIFEST).lstat().st_size


def _summary(path: Path, head: bytes, line: bytes) -> Summary:
    try:
        found = msgspec.json.decode(head, type=Version).format
        if found != FORMAT:
            raise FormatError(f"{path / MANIFEST} has format {found}; this version of cascade reads format {FORMAT}")
        if head != _line(Head(FORMAT, checksum([line]))):
            raise _damaged(path, "the summary fails its checksum")
        summary = msgspec.json.decode(line, type=Summary)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, error) from error
    if summary.metadata.keys() != set(METADATA) or summary.chunks.keys() != {"x", *SMALL_ARRAYS}:
        raise _damaged(path, f"it covers {sorted(summary.metadata)} and chunks of {sorted(summary.chunks)}")
    return summary


def _arrays(path: Path, summary: Summary, table: bytes) -> dict[str, Chunks]:
    try:
        rows = msgspec.json.decode(table, type=dict[str, tuple[list[Length], list[Crc32c]]])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, error) from error
    counts = {name: (len(lengths), len(crcs)) for name, (lengths, crcs) in rows.items()}
    nbytes = sum(sum(lengths) for lengths, _ in rows.values())
    if counts != {name: (count, count) for name, count in summary.chunks.items()} or nbytes != summary.nbytes:
        raise _damaged(path, "summary and chunk table disagree")
    return {
        name: Chunks(np.array(lengths, np.int64), np.array(crcs, np.int64)) for name, (lengths, crcs) in rows.items()
    }


def _line(content: Any) -> bytes:
    return msgspec.json.encode(content) + b"\n"


def _damaged(path: Path, why: object) -> CorruptStoreError:
    return CorruptStoreError(f"{path / MANIFEST} is damaged: {why}")
