"""A committed store, for reading."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.codecs import CHECKSUM_BYTES, checksum, codec_of, decoded_bytes, trailer, unpack
from cache.encodings import ELEMENT_TYPES
from cache.errors import CorruptStoreError
from cache.layout import chunk_key, read_manifest
from cache.metadata import ArrayMetadata, GroupMetadata, read_metadata


class Store:
    """One x_i of one split: `views` renderings of `samples` samples of shape (C, H, W).

    Opening reads the manifest, the metadata, and the small arrays. Row r of `y` and `sample_id` belongs to
    sample r of every view.

    Raises NoStoreError where nothing is committed at `path`, CorruptStoreError where what is there is not what was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path)
        self.attributes = read_metadata(path, GroupMetadata).attributes
        x = read_metadata(path / "x", ArrayMetadata)
        if not len(x.shape) == len(x.chunk_shape) == 5:
            raise CorruptStoreError(f"{path}: x has shape {x.shape} in chunks of {x.chunk_shape}, not five axes")
        self.views, self.samples, *_ = x.shape
        self.sample_shape: tuple[int, int, int] = x.shape[2:]
        self.chunk_samples = x.chunk_shape[1]
        with _named(f"{path / 'x'}"):
            self.codec = codec_of(x.codecs)
        self.encoding = str(self.attributes.get("encoding"))
        self.dtype = x.dtype
        if x.chunk_shape != (1, self.chunk_samples, *self.sample_shape):
            raise CorruptStoreError(f"{path}: chunks of shape {x.chunk_shape} are not whole samples of {x.shape}")
        if x.data_type != ELEMENT_TYPES.get(self.encoding):
            raise CorruptStoreError(f"{path}: encoding {self.encoding!r} with elements of type {x.data_type}")
        counts = {name: len(chunks) for name, chunks in self.manifest.arrays.items()}
        if counts != {"x": self.views * self.chunks_per_view, "y": 1, "sample_id": 1, "scale": 1}:
            raise CorruptStoreError(f"{path}: the manifest and the metadata disagree on the number of chunks: {counts}")
        self.y: NDArray[np.int64] = self._small_array("y", "int64", self.samples)
        self.sample_id: NDArray[np.int64] = self._small_array("sample_id", "int64", self.samples)
        self.scale: NDArray[np.float32] = self._small_array("scale", "float32", self.sample_shape[0])

    @property
    def chunks_per_view(self) -> int:
        return -(-self.samples // self.chunk_samples)

    @property
    def sample_bytes(self) -> int:
        """Decoded bytes of a sample, in the encoding's element type."""
        return int(np.prod(self.sample_shape)) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all chunks on disk."""
        return self.manifest.nbytes

    def read_chunk(self, view: int, number: int, dest: NDArray[Any]) -> None:
        """Read chunk `number` of `view` into `dest`, (chunk_samples, C, H, W) of the store's dtype, C-contiguous.

        Length and checksum are verified against the manifest before decoding. In the last chunk of a view, what
        lies beyond the last sample is zero.
        """
        key = chunk_key(view, number, 0, 0, 0)
        stored = self._verified("x", view * self.chunks_per_view + number, key)
        with _named(f"chunk x/{key} of {self.path}"):
            unpack(stored, self.codec, dest)

    def _small_array(self, name: str, data_type: str, length: int) -> NDArray[Any]:
        metadata = read_metadata(self.path / name, ArrayMetadata)
        stored = self._verified(name, 0, chunk_key(0))
        with _named(f"{self.path / name}"):
            codec = codec_of(metadata.codecs)
            array = np.empty(decoded_bytes(stored, codec) // metadata.dtype.itemsize, metadata.dtype)
        if {metadata.shape, metadata.chunk_shape, array.shape} != {(length,)} or metadata.data_type != data_type:
            raise CorruptStoreError(
                f"{self.path}: {name} has shape {metadata.shape} of {metadata.data_type} and {array.size} stored "
                f"elements; {length} of {data_type} belong"
            )
        with _named(f"{self.path / name}"):
            unpack(stored, codec, array)
        return array

    def _verified(self, array: str, index: int, key: str) -> bytes:
        committed = self.manifest.arrays[array][index]
        try:
            data = (self.path / array / key).read_bytes()
        except FileNotFoundError:
            raise CorruptStoreError(f"chunk {array}/{key} of {self.path} is missing") from None
        if len(data) != committed.length:
            raise CorruptStoreError(
                f"chunk {array}/{key} of {self.path} has {len(data)} bytes; {committed.length} were committed"
            )
        if checksum(data) != committed.crc32c or data[-CHECKSUM_BYTES:] != trailer(committed.crc32c):
            raise CorruptStoreError(f"chunk {array}/{key} of {self.path} fails its checksum")
        return data


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Say of a CorruptStoreError what is corrupt."""
    try:
        yield
    except CorruptStoreError as error:
        raise CorruptStoreError(f"{what}: {error}") from error
