"""Where a store keeps what: a Zarr v3 group with the arrays x, y, sample_id and scale, and a manifest beside them.

zarr.json            attributes: format, encoding and whatever the writer adds
x/c.V.K.0.0.0        chunk K of view V of activations (view, sample, channel, height, width)
y/c.0  sample_id/c.0 one label and one sample id for each row
scale/c.0            one float32 for each channel
manifest.json        length and crc32c of every chunk; written last: a store without it does not exist
"""

from pathlib import Path
from typing import Any

import msgspec
import zarr.abc.store

from cache.errors import CorruptStoreError, FormatError, NoStoreError
from cache.place import place_of

FORMAT = 1
"""Version of everything this page describes. A reader refuses a newer one."""

MANIFEST = "manifest.json"
CHUNK_BYTES = 8 * 2**20
"""Decoded size that a chunk stays within, unless one sample alone is larger."""


class ChunkRecord(msgspec.Struct, frozen=True, array_like=True):
    """What was committed of one chunk."""

    length: int
    """Bytes of its file."""
    crc32c: int
    """Of those bytes without the codec's trailer of four."""


class Version(msgspec.Struct, frozen=True):
    """All that is read of a manifest before its format is known."""

    format: Any = None
    """Version of the layout; of any type, for it may be any version."""


class Manifest(msgspec.Struct, frozen=True):
    """The commit record of a store."""

    format: int
    """Version of the layout."""
    arrays: dict[str, list[ChunkRecord]]
    """Array name -> its chunks in C order of the chunk grid."""

    @property
    def nbytes(self) -> int:
        """Bytes of all chunks on disk."""
        return sum(chunk.length for chunks in self.arrays.values() for chunk in chunks)


def chunk_samples(run: int, sample_bytes: int) -> int:
    """Samples in a chunk: the largest divisor of `run` whose samples fit in CHUNK_BYTES, at least one.

    A divisor, so that a run of samples, the unit that is shuffled and shares a view, is a whole number of chunks
    whatever the size of a sample.
    """
    return max(n for n in range(1, run + 1) if run % n == 0 and (n == 1 or n * sample_bytes <= CHUNK_BYTES))


def chunk_key(*index: int) -> str:
    """File name of a chunk: default chunk key encoding with separator "."."""
    return ".".join(["c", *map(str, index)])


def read_manifest(where: Path | zarr.abc.store.Store) -> Manifest:
    """The manifest of the store in a folder, or in a store of zarr-python.

    Raises NoStoreError where there is none, CorruptStoreError where it is unreadable or of a newer format.
    """
    try:
        data = place_of(where).read(MANIFEST)
    except FileNotFoundError:
        raise NoStoreError(f"{where} holds no committed store") from None
    try:
        found = msgspec.json.decode(data, type=Version).format
        if found != FORMAT:
            raise FormatError(f"{where} has format {found}; this version of cascade reads format {FORMAT}")
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptStoreError(f"{where}/{MANIFEST} is damaged: {error}") from error
