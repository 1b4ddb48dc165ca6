"""A made-up folder of JPEGs with the sizes of ImageNet's: for what has to be tried before there is the real one.

    python -m tests.benchmarks.imagefolder made-up --images 3000 --classes 20

Sides are drawn around ImageNet's commonest, 500x375, either way up, some far larger and smaller. Each class has a
pattern of its own under coarse and fine noise, so that a network has something to learn, and a
file the bytes of a photo.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MEAN_SIDES = (500, 375)
SPREAD = 0.35
"""Standard deviation of the logarithm of a side."""
SIDES = (64, 3000)
TEST_SHARE = 0.04
"""As ImageNet's 50,000 beside 1,281,167."""
QUALITY = 90


def drawn_sides(generator: np.random.Generator) -> tuple[int, int]:
    """Width and height of an image, in pixels."""
    scale = np.exp(SPREAD * generator.standard_normal())
    width, height = (int(np.clip(side * scale, *SIDES)) for side in MEAN_SIDES)
    return (height, width) if generator.random() < 0.25 else (width, height)


def image(label: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3): the pattern of a class, and noise."""
    width, height = drawn_sides(generator)
    rows, columns = np.mgrid[0:height, 0:width] / 40.0
    angle = 2.4 * label
    waves = np.sin(np.cos(angle) * rows + np.sin(angle) * columns + generator.random() * 6)
    colour = np.array([np.cos(angle), np.cos(angle + 2.1), np.cos(angle + 4.2)])
    coarse = generator.normal(size=(height // 16 + 1, width // 16 + 1, 3)).repeat(16, 0).repeat(16, 1)
    noise = coarse[:height, :width] + 0.3 * generator.normal(size=(height, width, 3))
    pixels: NDArray[np.uint8] = np.clip(128 + 40 * waves[..., None] * colour + 35 * noise, 0, 255).astype(np.uint8)
    return pixels


def write(folder: Path, images: int, classes: int, seed: int) -> int:
    """Write train/CLASS/*.JPEG and val/CLASS/*.JPEG; returns their bytes."""
    nbytes = 0
    for split, count in (("train", images), ("val", max(round(TEST_SHARE * images), classes))):
        for i in range(count):
            label = i % classes
            path = folder / split / f"n{label:04d}" / f"{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            generator = np.random.default_rng([seed, split == "val", i])
            Image.fromarray(image(label, generator)).save(path, quality=QUALITY)
            nbytes += path.stat().st_size
    return nbytes


def main(argv: list[str] | None = None) -> int:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=3000, help="of training")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    nbytes = write(arguments.folder, arguments.images, arguments.classes, arguments.seed)
    kilobytes = nbytes / arguments.images / (1 + TEST_SHARE) / 1000
    print(f"{arguments.images:,} training images, {kilobytes:.0f} KB each, in {arguments.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
