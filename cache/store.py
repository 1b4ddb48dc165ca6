"""A committed store, for reading."""

import math
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr.abc.store
from numpy.typing import NDArray

from cache.codecs import CHECKSUM_BYTES, codec_of, decoded_bytes, unpack
from cache.encodings import ELEMENT_TYPES, stored_shape
from cache.errors import CorruptStoreError
from cache.layout import CHUNK_BYTES
from cache.manifest import read_manifest
from cache.memory import aligned_buffer
from cache.place import Bytes, place_of
from cache.timing import Timings
from cache.verified import VerifiedRead, verified, verify_metadata


class Store:
    """One x_i of one split: `views` renderings of `samples` samples of shape (C, H, W).

    Opening reads the manifest, the metadata, and the small arrays. Row r of `y` and `sample_id` belongs to
    sample r of every view. On disk, and in the arrays that are read into, a sample has `stored_shape`.

    `where` is a folder, or a store of zarr-python for what lies elsewhere.

    Raises NoStoreError where nothing is committed at `path`, CorruptStoreError where what is there is not what was.
    """

    def __init__(self, where: Path | zarr.abc.store.Store) -> None:
        self.path = path = where if isinstance(where, Path) else Path(str(where))
        self._place = place_of(where)
        self._scratch = threading.local()
        self.manifest = manifest = read_manifest(where)
        for name in manifest.summary.metadata:
            verify_metadata(self._place, name, manifest)
        self.attributes = manifest.group.attributes
        x = manifest.array("x")
        self.chunks_per_view = manifest.chunks_per_view
        self.views, self.samples, *stored = x.shape
        self.stored_shape: tuple[int, int, int] = (stored[0], stored[1], stored[2])
        self.chunk_samples = x.chunk_shape[1]
        with _named(f"{path / 'x'}"):
            self.codec = codec_of(x.codecs)
        self.encoding = str(self.attributes.get("encoding"))
        self.dtype = x.dtype
        if x.chunk_shape != (1, self.chunk_samples, *self.stored_shape):
            raise CorruptStoreError(f"{path}: chunks of shape {x.chunk_shape} are not whole samples of {x.shape}")
        if self.chunk_samples > 1 and self.chunk_samples * self.sample_bytes > CHUNK_BYTES:
            raise CorruptStoreError(
                f"{path}: chunks of {self.chunk_samples} samples of {self.sample_bytes} bytes, and a chunk of several "
                f"stays within {CHUNK_BYTES} bytes"
            )
        if x.data_type != ELEMENT_TYPES.get(self.encoding):
            raise CorruptStoreError(f"{path}: encoding {self.encoding!r} with elements of type {x.data_type}")
        self.sample_shape = self._logical_shape()
        counts = manifest.summary.chunks
        if counts != {"x": self.views * self.chunks_per_view, "y": 1, "sample_id": 1, "scale": 1}:
            raise CorruptStoreError(f"{path}: the manifest and the metadata disagree on the number of chunks: {counts}")
        self.y: NDArray[np.int64] = self._small_array("y", "int64", self.samples)
        self.sample_id: NDArray[np.int64] = self._small_array("sample_id", "int64", self.samples)
        self.scale: NDArray[np.float32] = self._small_array("scale", "float32", self.sample_shape[0])

    @property
    def sample_bytes(self) -> int:
        """Decoded bytes of a sample, in the encoding's element type."""
        return math.prod(self.stored_shape) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all chunks on disk."""
        return self.manifest.summary.nbytes

    def read_chunk(self, view: int, number: int, dest: NDArray[Any], timings: Timings | None = None) -> None:
        """Read chunk `number` of `view` into `dest`, (chunk_samples, *stored_shape) of the store's dtype, C-contiguous.

        Length and checksum are verified against the manifest before decoding. In the last chunk of a view, what
        lies beyond the last sample is zero.
        """
        timings = timings or Timings()
        index = view * self.chunks_per_view + number
        if self.codec == "none":
            with self._verified("x", index, timings) as chunk:
                chunk.read_all(_flat(dest))
            return
        body = self._body("x", index, timings)
        with timings.of("decode"), _named(f"chunk {self.manifest.chunk_name('x', index)} of {self.path}"):
            unpack(body.data, self.codec, dest)

    @contextmanager
    def raw_chunk(self, view: int, number: int, timings: Timings) -> Iterator[VerifiedRead]:
        """A chunk that is not compressed, to be read in parts to wherever its samples belong.

        It must be read to its end. What was read is verified when the context ends, which then raises
        CorruptStoreError.
        """
        with self._verified("x", view * self.chunks_per_view + number, timings) as chunk:
            yield chunk

    def _logical_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the activations; where numbers are packed, the attributes name it."""
        if self.encoding != "uint4":
            return self.stored_shape
        logical = self.attributes.get("logical_shape")
        whole = isinstance(logical, list) and len(logical) == 3 and all(isinstance(n, int) for n in logical)
        shape: tuple[int, int, int] = tuple(logical) if whole else self.stored_shape  # type: ignore[arg-type]
        if not whole or stored_shape(self.encoding, shape) != self.stored_shape:
            raise CorruptStoreError(f"{self.path}: logical shape {logical} in stored samples of {self.stored_shape}")
        return shape

    def _small_array(self, name: str, data_type: str, length: int) -> NDArray[Any]:
        metadata = self.manifest.array(name)
        body = self._body(name, 0, Timings())
        with _named(f"{self.path / name}"):
            codec = codec_of(metadata.codecs)
            stored = decoded_bytes(body.data, codec)
        alike = {metadata.shape, metadata.chunk_shape} == {(length,)} and metadata.data_type == data_type
        if not alike or stored != length * metadata.dtype.itemsize:  # before memory is taken for what a header claims
            raise CorruptStoreError(
                f"{self.path}: {name} has shape {metadata.shape} of {metadata.data_type} and {stored} stored "
                f"bytes; {length} of {data_type} belong"
            )
        array = np.empty(length, metadata.dtype)
        with _named(f"{self.path / name}"):
            unpack(body.data, codec, array)
        return array

    def _body(self, array: str, index: int, timings: Timings) -> Bytes:
        """The bytes of a chunk without their trailer, verified; overwritten by the next call in the same thread."""
        length = max(self.manifest.arrays[array][index].length - CHECKSUM_BYTES, 0)
        if len(getattr(self._scratch, "bytes", b"")) < length:
            self._scratch.bytes = aligned_buffer(length)
        body: Bytes = self._scratch.bytes[:length] if length else np.empty(0, np.uint8)
        with self._verified(array, index, timings) as chunk:
            chunk.read_all(body)
        return body

    def _verified(self, array: str, index: int, timings: Timings) -> AbstractContextManager[VerifiedRead]:
        name = self.manifest.chunk_name(array, index)
        record = self.manifest.arrays[array][index]
        return verified(self._place, name, record, f"chunk {name} of {self.path}", timings)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Say of a CorruptStoreError what is corrupt."""
    try:
        yield
    except CorruptStoreError as error:
        raise CorruptStoreError(f"{what}: {error}") from error


def _flat(array: NDArray[Any]) -> Bytes:
    """The bytes of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8)
