"""Safetensors files, read by ordinary reads: of one that is mapped, a bad sector would end the process by SIGBUS.

Eight bytes give the length of a JSON header, and that the type, shape and place of each tensor in all that follows.
"""

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from cache import RECORD_BYTES, Folder
from cache.place import OpenObject
from pipeline.config import Natural

LENGTH = struct.Struct("<Q")
METADATA = "__metadata__"
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class TensorFileError(ValueError):
    """A file is not one of tensors, or not a whole one."""


class Place(msgspec.Struct, frozen=True):
    """What a tensor is, and where its bytes are."""

    dtype: str
    """One of TYPES."""
    shape: Annotated[list[Natural], Meta(max_length=8)]
    data_offsets: tuple[Natural, Natural]
    """Of its first byte and of that behind its last, from the end of the header."""

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * TYPES[self.dtype].itemsize


def read_tensor_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file. The tensors are views of its bytes, which are in memory once, and go with the
    last of them.

    Raises TensorFileError, CorruptStoreError where it is no file, OSError.
    """
    with _opened(path) as (file, start, metadata, places):
        nbytes = file.length - start
        _check_places(places, nbytes)
        data = torch.empty(nbytes, dtype=torch.uint8)
        try:
            file.read(start, [data.numpy()], nbytes)
        except EOFError as error:
            raise TensorFileError(str(error)) from error
    return {name: _view(data, place) for name, place in places.items()}, metadata


def read_tensor_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, of which only the header is read. Raises like `read_tensor_file`."""
    with _opened(path) as (_, _, metadata, _):
        return metadata


def read_tensor_shapes(path: Path) -> dict[str, list[int]]:
    """The shape of each tensor of a file, of which only the header is read. Raises like `read_tensor_file`."""
    with _opened(path) as (_, _, _, places):
        return {name: place.shape for name, place in places.items()}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[OpenObject, int, dict[str, str], dict[str, Place]]]:
    """A file, the length of what comes before the tensors' bytes, metadata, and where each tensor is."""
    with Folder(path.parent).open(path.name) as file:
        (length,) = LENGTH.unpack(_read(file, 0, LENGTH.size))
        start = LENGTH.size + length
        if length > RECORD_BYTES:
            raise TensorFileError(f"its header is said to have {length:,} bytes, of at most {RECORD_BYTES:,}")
        yield file, start, *_parsed(_read(file, LENGTH.size, length))


def _read(file: OpenObject, offset: int, nbytes: int) -> bytes:
    if offset + nbytes > file.length:
        raise TensorFileError(f"it ends after {file.length:,} bytes, before its header does")
    data = np.empty(nbytes, np.uint8)
    file.read(offset, [data], nbytes)
    return data.tobytes()


def _parsed(header: bytes) -> tuple[dict[str, str], dict[str, Place]]:
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(entries.pop(METADATA, msgspec.Raw(b"{}")), type=dict[str, str])
        return metadata, {name: msgspec.json.decode(entry, type=Place) for name, entry in entries.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TensorFileError(f"its header: {error}") from error


def _check_places(places: dict[str, Place], nbytes: int) -> None:
    """Raise TensorFileError unless tensors follow each other without gaps, to the end of the file."""
    end = 0
    for name, place in sorted(places.items(), key=lambda item: item[1].data_offsets):
        first, last = place.data_offsets
        if place.dtype not in TYPES:
            raise TensorFileError(f"{name} is of type {place.dtype}; known: {', '.join(TYPES)}")
        if first != end or last - first != place.nbytes or first % TYPES[place.dtype].itemsize:
            raise TensorFileError(f"{name} is said to be at bytes {first:,} to {last:,}, where it cannot be")
        end = last
    if end != nbytes:
        raise TensorFileError(f"it has {nbytes:,} bytes of tensors, and {end:,} belong there")


def _view(data: Tensor, place: Place) -> Tensor:
    first, last = place.data_offsets
    return data[first:last].view(TYPES[place.dtype]).reshape(place.shape)
