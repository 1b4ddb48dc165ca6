"""What a config leaves open of the images, found out from a few of them."""

from typing import Any

import numpy as np
from PIL import Image

from pipeline.bad_images import printable
from pipeline.errors import ConfigError, CorruptDataError
from pipeline.images import GREY_MODES
from pipeline.sources import Source


def _probe(source: Source) -> list[Image.Image]:
    """A few images from all over the training set; damaged ones are left for the ingest to report."""
    count = len(source.train.labels)
    images = []
    for i in np.unique(np.linspace(0, count - 1, 32).astype(int)):
        try:
            images.append(source.train.load(int(i)))
        except Exception:
            continue
    if not images:
        raise CorruptDataError(f"none of the images tried can be read, among them {printable(source.train.name(0))}")
    return images


def find_channels(source: Source) -> int:
    """1 where all images tried are grey, else 3."""
    return 1 if all(image.mode in GREY_MODES for image in _probe(source)) else 3


def find_side(source: Source) -> int:
    """Side of the images tried, in pixels. Raises ConfigError where they are not all squares of one size."""
    sizes: set[Any] = {image.size for image in _probe(source)}
    if len(sizes) > 1 or len({*next(iter(sizes))}) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:3])
        raise ConfigError(f"images are not all squares of one size ({shown}); set data.canvas to the side to resize to")
    return int(next(iter(sizes))[0])
