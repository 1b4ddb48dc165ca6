"""What the benchmarks read and write: sparse activations, and stores of them."""

import argparse
import math
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import CodecName, StoreWriter

Samples = NDArray[np.uint8]
"""(N, C, H, W)"""

CHANNELS = 64
PATCH = 4
"""Pixels over which neighbours are alike, and so how well the samples compress."""
QUIET_SHIFT, QUIET_SPREAD = 0.45, 0.7
"""Mean and deviation over channels of the threshold below which an activation is 0, in deviations of the activation.

With PATCH they give what the first stages of a trained network do as uint8: two thirds exact zeros in blobs, lz4 a bit
above 2 and zstd-1 a bit above 3."""
DISTINCT_BYTES = WINDOW_BYTES = 128 * 2**20


def sample_shape(kilobytes: int) -> tuple[int, int, int]:
    """(C, H, W) of a uint8 sample of so many KB (of 1024 bytes)."""
    side = math.isqrt(kilobytes * 1024 // CHANNELS)
    return (CHANNELS, side, side)


def sample_kilobytes(text: str) -> int:
    """A size of sample for argparse: one whose images are squares of at least PATCH pixels a side."""
    kilobytes = int(text)
    if kilobytes < 1 or math.prod(sample_shape(kilobytes)) != kilobytes * 1024:
        raise argparse.ArgumentTypeError(
            f"{text} KB is no square image of {CHANNELS} channels; 16, 64, 256 and 1024 are"
        )
    return kilobytes


def activations(shape: tuple[int, int, int], count: int, seed: int = 0) -> Samples:
    """`count` distinct samples as a ReLU leaves them: smooth noise, cut off at another height in each channel."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    threshold = rng.normal(QUIET_SHIFT, QUIET_SPREAD, (channels, 1, 1)).astype(np.float32)
    samples = np.empty((count, *shape), np.uint8)
    for sample in samples:  # one at a time: as float32 all of them would take four times the memory
        coarse = rng.standard_normal((channels, -(-height // PATCH), -(-width // PATCH)), dtype=np.float32)
        x = coarse.repeat(PATCH, 1).repeat(PATCH, 2)[:, :height, :width]
        for axis in (1, 2):
            for _ in range(PATCH // 2):
                x = x + np.roll(x, 1, axis)
        sample[:] = np.clip(np.rint(64 * (x / x.std() - threshold)), 0, 255)
    return samples


class Source:
    """Samples of `nbytes` in all, to the next window, made of a few hundred distinct ones.

    A window of the training order is 2,048 samples or 128 MB, whichever is less, and a run a sixteenth of it.
    """

    def __init__(self, shape: tuple[int, int, int], nbytes: float) -> None:
        self.shape = shape
        self.sample_bytes = math.prod(shape)
        self.window = min(2048, WINDOW_BYTES // self.sample_bytes)
        self.run = max(1, self.window // 16)
        windows = max(1, round(nbytes / (self.window * self.sample_bytes)))
        self.samples = windows * self.window
        distinct = activations(shape, min(512, self.samples, DISTINCT_BYTES // self.sample_bytes))
        self._distinct_runs = [distinct[start : start + self.run] for start in range(0, len(distinct), self.run)]

    def runs(self) -> Iterator[Samples]:
        """All samples in runs, none twice in a run: a codec would find the repetition."""
        return islice(cycle(self._distinct_runs), self.samples // self.run)


def write_store(path: Path, source: Source, codec: CodecName, threads: int = 2) -> None:
    """Write all samples of `source` to a committed store of one view."""
    with StoreWriter(
        path,
        views=1,
        samples=source.samples,
        sample_shape=source.shape,
        encoding="uint8",
        codec=codec,
        run=source.run,
        threads=threads,
    ) as writer:
        for number, x in enumerate(source.runs()):
            writer.write(0, number * source.run, x)
        ids = np.arange(source.samples)
        writer.commit(y=np.zeros_like(ids), sample_id=ids)
