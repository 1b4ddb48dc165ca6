"""The store of x_0 of one split, as an ingest writes it and a repair writes it again."""

from pathlib import Path

import msgspec

from cache import CodecName, Fingerprint, StoreWriter
from pipeline.config import Data


def x_0_fingerprint(data: Data, split: str) -> Fingerprint:
    """What determined x_0 of a split, for its store to be known by."""
    return {"index": 0, "split": split, "encoding": "identity", "data": msgspec.to_builtins(data)}


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
        attributes={"split": split, "index": 0},
        threads=threads,
    )
