"""The store of x_0 of one split, as an ingest writes it and a repair writes it again."""

from pathlib import Path

from cache import CodecName, StoreWriter
from pipeline.config import Data
from pipeline.data_info import x_0_fingerprint
from pipeline.storedattributes import image_attributes


def image_writer(
    path: Path,
    data: Data,
    split: str,
    *,
    samples: int,
    channels: int,
    side: int,
    run: int,
    codec: CodecName,
    threads: int,
) -> StoreWriter:
    """A writer of `samples` canvases, (channels, side, side) uint8, made from a [data] section."""
    return StoreWriter(
        path,
        views=1,
        samples=samples,
        sample_shape=(channels, side, side),
        encoding="identity",
        codec=codec,
        run=run,
        fingerprint=x_0_fingerprint(data, split),
        attributes=image_attributes(split),
        threads=threads,
    )
