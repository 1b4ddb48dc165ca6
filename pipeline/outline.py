"""What is known of a run before anything of it is there: its config, its images by number and size, its shapes."""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import StoreError, chunk_samples, packed_bytes, read_manifest, sample_bytes
from cache.codecs import CHECKSUM_BYTES
from cascade import StageShape
from pipeline.config import Config
from pipeline.data_info import X_0, check_same_data, read_data_info
from pipeline.disk import store_size
from pipeline.errors import ConfigError
from pipeline.probe import find_channels, find_side
from pipeline.shapes import canvas_side, check_canvas, network_shapes, stored_shape
from pipeline.sources import Source, open_source
from pipeline.splits import split_indices
from pipeline.stepmemory import NO_STEPS, MeasuredSteps, read_steps


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A run as arithmetic."""

    config: Config
    channels: int
    """Of the images."""
    side: int
    """Of the images, in pixels."""
    classes: int
    samples: dict[str, int]
    """Split -> number of images."""
    shapes: list[StageShape]
    """Of every stage, on training windows."""
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Split -> bytes of its labels and of its sample ids on disk, the same in every store; of one that is left out
    what they can be at most is taken."""
    steps: MeasuredSteps = NO_STEPS
    """What real training steps took of devices' memory."""

    def under(self, config: Config) -> "Outline":
        """The same network on the same images under another encoding or policy. Raises ConfigError where a canvas does
        not fit."""
        if config.augment.policy == "canvas":
            check_canvas(config, self.shapes, image_side=self.side)
        return replace(self, config=config)

    def of_images(self, count: int) -> "Outline":
        """The same with `count` training images, those held out among them, and all else in proportion."""
        held_out = self.samples.get("validation", 0)
        factor = count / (self.samples["train"] + held_out)
        samples = {split: max(round(factor * own), 1) for split, own in self.samples.items()}
        rows = {split: (math.ceil(factor * y), math.ceil(factor * ids)) for split, (y, ids) in self.rows.items()}
        return replace(self, samples=samples, rows=rows)

    def check_stage(self, j: int) -> None:
        """Raise ConfigError where the network has no stage j."""
        if not 0 <= j < len(self.shapes):
            raise ConfigError(
                f"j = {j}: the network has {len(self.shapes)} stages, j from 0 to {len(self.shapes) - 1}\n"
                f"next: the same command with one of them"
            )

    def output_shape(self, j: int) -> tuple[int, int, int]:
        """(C, H, W) of x_{j+1} as it is stored."""
        return stored_shape(self.config, self.shapes, j, image_side=self.side)

    def nearest(self, j: int, is_there: Callable[[int], bool]) -> int:
        """The largest i <= j of an x_i, i >= 1, that `is_there` and that stage j may start from; else 0, the images.

        Under the policy "recompute" only x_0 is one, and none past augment.cut_at under "canvas".
        """
        return next((i for i in range(self.config.augment.last_anchor(j), 0, -1) if is_there(i)), 0)

    def encoding(self, index: int) -> str:
        """Of x_index."""
        return self.config.for_stage(index - 1).store.encoding if index else "identity"

    def sample_bytes(self, index: int) -> int:
        """Of a sample of x_index as it is stored, before compression."""
        if index == 0:
            return self.channels * self.side**2
        return sample_bytes(self.encoding(index), self.output_shape(index - 1))

    def numbers(self, index: int) -> int:
        """Activations of a sample of x_index as it is stored; of x_0 of what is cut from it for a store."""
        if index:
            return int(np.prod(self.output_shape(index - 1)))
        is_canvas = self.config.augment.policy == "canvas"
        return self.channels * (canvas_side(self.config, self.side) if is_canvas else self.shapes[0].in_side) ** 2

    def raw_bytes(self, index: int) -> int:
        """Of the chunks of x_index on disk without compression, over all splits and views; the last ones are whole."""
        sample = self.sample_bytes(index)
        chunk = chunk_samples(self.config.order.run, sample)
        chunks = sum(self.views(index, split) * -(-count // chunk) for split, count in self.samples.items())
        return chunks * (chunk * sample + CHECKSUM_BYTES)

    def files(self, index: int) -> int:
        """Of x_index, folders included, over all splits."""
        sizes = (
            store_size(
                samples=count,
                views=self.views(index, split),
                sample_bytes=self.sample_bytes(index),
                run=self.config.order.run,
            )
            for split, count in self.samples.items()
        )
        return sum(one.files for one in sizes)

    def views(self, index: int, split: str) -> int:
        """Of a split in x_index."""
        return self.config.augment.stored_views if index and split == "train" else 1


def read_outline(folder: Path, config: Config, *, steps: MeasuredSteps | None = None) -> Outline:
    """The outline of a run folder: from its x_0 or, where nothing is ingested yet, from the data set itself.
    `steps` are what real ones took, by default as the folder keeps them.

    Raises ConfigError where there is no such data set or the network does not fit its images, RefusedError where x_0
    is of other data than the config's, CorruptDataError.
    """
    info = read_data_info(folder)
    if info is not None:
        check_same_data(info, config, folder)
        channels, side, classes, samples = info.channels, info.side, len(info.classes), dict(info.samples)
        rows = _ingested_rows(folder, samples)
    else:
        source = open_source(config.data.source)
        channels = config.data.channels or find_channels(source)
        side, classes = config.data.canvas or find_side(source), len(source.classes)
        splits = split_indices(source, config.data)
        samples = {split: len(ids) for split, ids in splits.items()}
        rows = {split: _rows(source, split, ids) for split, ids in splits.items()}
    shapes = network_shapes(config, channels=channels, image_side=side)
    return Outline(
        config=config,
        channels=channels,
        side=side,
        classes=classes,
        samples=samples,
        shapes=shapes,
        rows=rows,
        steps=read_steps(folder) if steps is None else steps,
    )


def _ingested_rows(folder: Path, splits: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Bytes of labels and sample ids in x_0, of splits that can be read."""
    rows = {}
    for split in splits:
        with suppress(StoreError, OSError):  # damage is for whoever reads the images
            arrays = read_manifest(folder / X_0 / split).arrays
            rows[split] = (arrays["y"][0].length, arrays["sample_id"][0].length)
    return rows


def _rows(source: Source, split: str, ids: NDArray[np.int64]) -> tuple[int, int]:
    """What they will take, if no image is left out."""
    labels = (source.test if split == "test" else source.train).labels
    return packed_bytes(labels[ids]), packed_bytes(ids)
