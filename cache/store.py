"""A committed store, for reading."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.codecs import checksum, codec_of, unpack
from cache.encodings import ELEMENT_TYPES
from cache.errors import CorruptStoreError
from cache.layout import chunk_key, element_type, read_manifest, read_metadata


class Store:
    """One x_i of one split: `views` renderings of `samples` samples of shape (C, H, W).

    Opening reads the manifest, the metadata, and the small arrays. Row r of `y` and `sample_id` belongs to
    sample r of every view.

    Raises NoStoreError where nothing is committed at `path`, CorruptStoreError where what is there is not what was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path)
        self.attributes: dict[str, Any] = read_metadata(path).get("attributes", {})
        self._metadata = {name: read_metadata(path / name) for name in ("x", "y", "sample_id", "scale")}
        try:
            x = self._metadata["x"]
            self.views, self.samples, *sample_shape = map(int, x["shape"])
            self.sample_shape: tuple[int, int, int] = tuple(sample_shape)  # type: ignore[assignment]
            self.chunk_samples = int(x["chunk_grid"]["configuration"]["chunk_shape"][1])
            self.codec = codec_of(x)
            self.encoding = str(self.attributes["encoding"])
            self.dtype = element_type(x)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptStoreError(f"the metadata of {path} is not that of a store: {error!r}") from error
        if self.dtype != ELEMENT_TYPES.get(self.encoding):
            raise CorruptStoreError(f"{path}: encoding {self.encoding!r} with elements of type {self.dtype}")
        if len(self.manifest.arrays["x"]) != self.views * self.chunks_per_view:
            raise CorruptStoreError(f"{path}: the manifest and the metadata disagree on the number of chunks")
        self.y: NDArray[np.int64] = self._small_array("y")
        self.sample_id: NDArray[np.int64] = self._small_array("sample_id")
        self.scale: NDArray[np.float32] = self._small_array("scale")

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
        index = view * self.chunks_per_view + number
        unpack(self._verified("x", index, chunk_key(view, number, 0, 0, 0)), self.codec, dest)

    def _small_array(self, name: str) -> NDArray[Any]:
        metadata = self._metadata[name]
        array = np.empty(metadata["shape"], element_type(metadata))
        unpack(self._verified(name, 0, chunk_key(0)), codec_of(metadata), array)
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
        if checksum(data) != committed.crc32c:
            raise CorruptStoreError(f"chunk {array}/{key} of {self.path} fails its checksum")
        return data
