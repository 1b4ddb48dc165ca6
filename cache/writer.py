"""Writing a store: whole chunks, in threads, and one commit at the end."""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
import zarr
from numpy.typing import NDArray

from cache.codecs import CHECKSUM_BYTES, CodecName, checksum, pack, trailer, zarr_codecs
from cache.encodings import ELEMENT_TYPES, sample_bytes, stored_shape
from cache.files import replace_file, sync, write_synced
from cache.layout import FORMAT, MANIFEST, ChunkRecord, Manifest, chunk_key, chunk_samples


class StoreWriter:
    """Writes one x_i of one split to the folder `path`, run by run, and commits it.

    Used as a context manager: whatever an earlier attempt left at `path` without committing is removed on the
    way in, and what this one leaves without `commit` on the way out. At most `4 * threads` chunks and one run wait in
    memory, each with the run that it is part of.

    `sample_shape` is that of the activations, (C, H, W); a packed encoding stores less (`encodings.stored_shape`).
    `run` is the number of samples handed over at a time; a chunk is a divisor of it (`layout.chunk_samples`).
    """

    def __init__(
        self,
        path: Path,
        *,
        views: int,
        samples: int,
        sample_shape: tuple[int, int, int],
        encoding: str,
        codec: CodecName,
        run: int,
        scale: NDArray[np.float32] | None = None,
        threads: int = 2,
    ) -> None:
        self.path = path
        self.dtype = np.dtype(ELEMENT_TYPES[encoding])
        self.chunk_samples = chunk_samples(run, sample_bytes(encoding, sample_shape))
        self._sample_shape = sample_shape
        self._shape = (views, samples, *stored_shape(encoding, sample_shape))
        if min(self._shape) < 1:
            raise ValueError(f"a store of shape {self._shape} would hold nothing")
        self._chunk = (self.chunk_samples, *self._shape[2:])
        self._encoding = encoding
        self._codec: CodecName = codec
        self._run = run
        self._scale = np.ones(sample_shape[0], np.float32) if scale is None else scale.astype(np.float32)
        chunks_per_view = -(-samples // self.chunk_samples)
        self._records: list[ChunkRecord | None] = [None] * (views * chunks_per_view)
        self._chunks_per_view = chunks_per_view
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="cache-writer")
        self._waiting: list[Future[None]] = []
        self._queue_limit = 4 * threads
        self._committed = False

    def __enter__(self) -> Self:
        if (self.path / MANIFEST).exists():
            raise FileExistsError(f"{self.path} holds a committed store")
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        self._group = zarr.create_group(self.path, zarr_format=3)
        self._create_array("x", self._shape, (1, *self._chunk), self.dtype, self._codec)
        return self

    def write(self, view: int, first: int, x: NDArray[Any]) -> None:
        """Hand over stored numbers x, (n, *stored shape), of samples first..first+n-1 of `view`.

        `first` is a multiple of the run, and n a run, or what is left of the view. The array is read later, by
        a thread: the caller leaves it alone.

        Raises ValueError where x does not belong there, and what a thread met while writing earlier chunks.
        """
        views, samples, *stored = self._shape
        if not 0 <= view < views:
            raise ValueError(f"view = {view}: the store has views 0..{views - 1}")
        if first % self._run or not 0 <= first < samples or len(x) != min(self._run, samples - first):
            raise ValueError(f"samples {first}..{first + len(x) - 1} are not a run of {self._run} out of {samples}")
        if x.dtype != self.dtype or list(x.shape[1:]) != stored:
            raise ValueError(
                f"x has samples {x.shape[1:]} of {x.dtype}; the store takes {tuple(stored)} of {self.dtype}"
            )
        for start in range(0, len(x), self.chunk_samples):
            number = (first + start) // self.chunk_samples
            rows = x[start : start + self.chunk_samples]
            self._waiting.append(self._pool.submit(self._write_chunk, view, number, rows))
        while len(self._waiting) > self._queue_limit:
            self._waiting.pop(0).result()

    def commit(self, *, y: NDArray[np.int64], sample_id: NDArray[np.int64], attributes: dict[str, Any]) -> None:
        """Write labels, sample ids, scale and attributes, make all of it durable, and put the manifest in place."""
        for future in self._waiting:
            future.result()
        self._waiting.clear()
        missing = self._records.count(None)
        if missing:
            raise ValueError(f"{missing} of {len(self._records)} chunks of {self.path} were never written")
        arrays = {"x": [record for record in self._records if record]}
        samples, channels = self._shape[1:3]
        for name, values, like in (
            ("y", y, np.empty(samples, np.int64)),
            ("sample_id", sample_id, np.empty(samples, np.int64)),
            ("scale", self._scale, np.empty(channels, np.float32)),
        ):
            if values.shape != like.shape or values.dtype != like.dtype:
                raise ValueError(f"{name} is {values.shape} of {values.dtype}; expected {like.shape} of {like.dtype}")
            self._create_array(name, values.shape, values.shape, values.dtype, "zstd")
            arrays[name] = [self._write_file(self.path / name / chunk_key(0), values, "zstd")]
        own: dict[str, Any] = {"format": FORMAT, "encoding": self._encoding}
        if self._encoding == "uint4":
            own |= {"logical_shape": list(self._sample_shape), "packing_axis": len(self._shape) - 1}
        self._group.attrs.put({**attributes, **own})
        for folder in (*(self.path / name for name in arrays), self.path):
            sync(folder / "zarr.json")
            sync(folder)
        sync(self.path.parent)
        replace_file(self.path / MANIFEST, msgspec.json.encode(Manifest(FORMAT, arrays)))
        self._committed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if not self._committed:
            shutil.rmtree(self.path, ignore_errors=True)

    def _create_array(
        self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: "np.dtype[Any]", codec: CodecName
    ) -> None:
        self._group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            compressors=zarr_codecs(codec, dtype.itemsize),
            filters=None,
            fill_value=0,
            chunk_key_encoding={"name": "default", "separator": "."},
        )

    def _write_chunk(self, view: int, number: int, rows: NDArray[Any]) -> None:
        if len(rows) < self.chunk_samples:  # a Zarr chunk is whole on disk, also the last one
            rows = np.concatenate([rows, np.zeros((self.chunk_samples - len(rows), *self._chunk[1:]), self.dtype)])
        path = self.path / "x" / chunk_key(view, number, 0, 0, 0)
        self._records[view * self._chunks_per_view + number] = self._write_file(path, rows, self._codec)

    @staticmethod
    def _write_file(path: Path, numbers: NDArray[Any], codec: CodecName) -> ChunkRecord:
        body = pack(numbers, codec)
        crc = checksum([body])
        write_synced(path, body, trailer(crc))
        return ChunkRecord(length=len(body) + CHECKSUM_BYTES, crc32c=crc)
