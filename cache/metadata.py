"""What is read of the `zarr.json` files of a store; whatever cascade never writes there is refused."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np

from cache.errors import CorruptStoreError

Size = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class ChunkShape(msgspec.Struct, frozen=True):
    """Configuration of a regular chunk grid."""

    chunk_shape: tuple[Size, ...]
    """Elements of a chunk along each axis."""


class ChunkGrid(msgspec.Struct, frozen=True):
    """How an array is cut into chunks."""

    name: Literal["regular"]
    configuration: ChunkShape


class Codec(msgspec.Struct, frozen=True):
    """One codec of a chain."""

    name: str
    configuration: dict[str, Any] = {}


class GroupMetadata(msgspec.Struct, frozen=True):
    """The `zarr.json` of a store."""

    attributes: dict[str, Any]
    """Format, encoding and what the writer's caller added."""


class ArrayMetadata(msgspec.Struct, frozen=True):
    """The `zarr.json` of one array of a store."""

    shape: tuple[Size, ...]
    """Elements along each axis."""
    data_type: Literal["uint8", "float16", "float32", "int64"]
    chunk_grid: ChunkGrid
    codecs: tuple[Codec, ...]
    """From array to bytes on disk."""

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Elements of a chunk along each axis."""
        return self.chunk_grid.configuration.chunk_shape

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The element type, little endian."""
        dtype: np.dtype[Any] = np.dtype(self.data_type)
        return dtype.newbyteorder("<")


Metadata = TypeVar("Metadata", GroupMetadata, ArrayMetadata)


def decode_metadata(text: str, kind: type[Metadata], *, named: Path) -> Metadata:
    """What a `zarr.json` says; `named` is how a user knows it.

    Raises CorruptStoreError where that is no JSON, or not what cascade writes of this `kind`.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise CorruptStoreError(f"{named} is damaged: {error}") from error
