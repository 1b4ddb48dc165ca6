"""What of a committed store is not as it was committed, and putting it back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from cache.choice import CodecChoice
from cache.codecs import CHECKSUM_BYTES, CodecName, checksum, codec_of, pack_chunk, trailer
from cache.errors import CorruptStoreError
from cache.files import Buffer, make_folder, replace_file
from cache.in_threads import in_threads
from cache.layout import RECORD_BYTES, ChunkRecord
from cache.manifest import Manifest, read_manifest
from cache.metadata import ArrayMetadata, decode_metadata
from cache.place import Folder
from cache.verified import verify, verify_metadata


class Inspected(NamedTuple):
    """One file of a store."""

    array: str
    """Array that it is a chunk of; "" for a metadata file."""
    number: int
    """Of the chunk in the table."""
    name: str
    """In the store, as "x/c.0.1.0.0.0"."""
    nbytes: int
    """As it was committed."""
    damage: str | None
    """What is wrong with it, or None."""


def inspect(path: Path, manifest: Manifest, *, threads: int = 2) -> Iterator[Inspected]:
    """Read every file of a store and compare it with the manifest: metadata first, then the arrays in their order.

    Raises PermissionError.
    """
    place = Folder(path)

    def look(chunk: tuple[str, int]) -> Inspected:
        array, index = chunk
        name, record, damage = manifest.chunk_name(array, index), manifest.arrays[array][index], None
        try:
            verify(place, name, record, f"chunk {name} of {path}")
        except PermissionError:
            raise  # which says nothing of the file
        except (CorruptStoreError, OSError) as error:
            damage = str(error)
        return Inspected(array, index, name, record.length, damage)

    for name, text in manifest.summary.metadata.items():
        damage = None
        try:
            verify_metadata(place, name, manifest)
        except PermissionError:
            raise
        except (CorruptStoreError, OSError) as error:
            damage = str(error)
        yield Inspected("", 0, name, len(text.encode()), damage)
    with ThreadPoolExecutor(threads, thread_name_prefix="cache-verify") as pool:
        chunks = ((name, index) for name, table in manifest.arrays.items() for index in range(len(table)))
        yield from in_threads(pool, look, chunks)


def put_back_metadata(path: Path, manifest: Manifest, name: str) -> None:
    """Write a metadata file as it was committed."""
    make_folder((path / name).parent)
    replace_file(path / name, manifest.summary.metadata[name].encode())


def put_back_chunk(
    path: Path, manifest: Manifest, array: str, index: int, numbers: NDArray[Any], codec: CodecName
) -> bool:
    """Write a chunk of these numbers, if they give the bytes that were committed. Returns False where they do not."""
    parts = _as_committed(manifest, array, index, numbers, codec)
    if parts is None:
        return False
    make_folder(path / array)
    replace_file(path / manifest.chunk_name(array, index), *parts)
    return True


def gives_chunk(manifest: Manifest, array: str, index: int, numbers: NDArray[Any], codec: CodecName) -> bool:
    """Whether these numbers give the bytes that were committed."""
    return _as_committed(manifest, array, index, numbers, codec) is not None


def _as_committed(
    manifest: Manifest, array: str, index: int, numbers: NDArray[Any], codec: CodecName
) -> list[Buffer] | None:
    """The bytes that these numbers give, None where others were committed."""
    parts, record = pack_chunk(numbers, codec)
    return parts if record == manifest.arrays[array][index] else None


def salvaged_codec(path: Path) -> CodecName | None:
    """The codec of a store whose manifest is lost, as its metadata says if it is readable; nothing vouches for it."""
    try:
        text = Folder(path).read("x/zarr.json").decode()
        return codec_of(decode_metadata(text, ArrayMetadata, named=path).codecs)
    except PermissionError:
        raise
    except (OSError, CorruptStoreError, UnicodeDecodeError):
        return None


def committed_codec(path: Path) -> CodecChoice | None:
    """The codec of a store, and why it was chosen, as its manifest says; None where that is lost."""
    try:
        manifest = read_manifest(path)
        codec = codec_of(manifest.array("x").codecs)
        return CodecChoice(codec, str(manifest.group.attributes.get("codec_reason")))
    except PermissionError:
        raise
    except (CorruptStoreError, OSError):
        return None


def agrees(path: Path, manifest: Manifest) -> bool:
    """Whether no chunk of x at a path that is whole, by the checksum it ends with, is another than a manifest says.

    Of a store whose own manifest is lost no more can be told.
    """
    chunks = manifest.arrays["x"]
    for index in range(len(chunks)):
        try:
            limit = max(RECORD_BYTES, 4 * chunks[index].length)
            data = Folder(path).read(manifest.chunk_name("x", index), limit)
        except PermissionError:
            raise
        except (CorruptStoreError, OSError):
            continue
        crc = checksum([memoryview(data)[:-CHECKSUM_BYTES]])
        if data[-CHECKSUM_BYTES:] == trailer(crc) and ChunkRecord(len(data), crc) != chunks[index]:
            return False
    return True
