"""The `zarr.json` files of a store, as zarr-python writes them."""

from typing import Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

from cache.codecs import CodecName, zarr_codecs
from cache.layout import METADATA
from cache.place import ZarrStore

SMALL_CODEC: CodecName = "zstd"
"""Codec of the arrays of one chunk."""


def metadata_files(
    *,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: "np.dtype[Any]",
    codec: CodecName,
    channels: int,
    attributes: dict[str, Any],
) -> dict[str, str]:
    """Name of each metadata file of a store -> its text; `shape` and `chunk` are those of x, `channels` the scale's."""
    samples, store = shape[1], MemoryStore()
    group = zarr.create_group(store, zarr_format=3, attributes=attributes)
    for name, size, chunks, elements, compressed in (
        ("x", shape, chunk, dtype, codec),
        ("y", (samples,), (samples,), np.dtype(np.int64), SMALL_CODEC),
        ("sample_id", (samples,), (samples,), np.dtype(np.int64), SMALL_CODEC),
        ("scale", (channels,), (channels,), np.dtype(np.float32), SMALL_CODEC),
    ):
        group.create_array(
            name,
            shape=size,
            chunks=chunks,
            dtype=elements,
            compressors=zarr_codecs(compressed, elements.itemsize),
            filters=None,
            fill_value=0,
            chunk_key_encoding={"name": "default", "separator": "."},
        )
    place = ZarrStore(store)
    return {name: place.read(name).decode() for name in METADATA}
