"""Colour, grey, palette and transparency: what becomes of each kind of image in x_0."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import CorruptDataError
from pipeline.ingest import to_canvas
from tests.images import image_file, ingested, pixels, tree
from tests.test_ingest import images_of


def test_grey_images_keep_one_channel(tmp_path: Path) -> None:
    assert ingested(tmp_path / "run", tree(tmp_path / "set", "train", "test", shape=(8, 8))).channels == 1


def test_one_colour_image_among_grey_ones_makes_three_channels(tmp_path: Path) -> None:
    address = tree(tmp_path / "set", "train", "test", shape=(8, 8))
    image_file(tmp_path / "set/train/bee/3.png", pixels(8, 8, 3))
    info = ingested(tmp_path / "run", address, data={"validation": 0})
    assert info.channels == 3
    stored = images_of(tmp_path / "run", "train")
    grey = [image for image in stored if (image == image[0]).all()]
    assert (len(stored), len(grey)) == (12, 11)


def test_grey_images_become_colour_ones_on_request(tmp_path: Path) -> None:
    address = tree(tmp_path / "set", "train", "test", shape=(8, 8))
    info = ingested(tmp_path / "run", address, data={"channels": 3})
    assert (info.channels, len(info.mean)) == (3, 3)
    stored = images_of(tmp_path / "run", "train")
    np.testing.assert_array_equal(stored[:, 1], stored[:, 0])


@pytest.mark.parametrize("channels", [0, 1])
def test_colour_image_that_is_found_late_among_grey_ones_is_a_bad_image(tmp_path: Path, channels: int) -> None:
    address = tree(tmp_path / "set", "train", "test", shape=(8, 8))
    image_file(tmp_path / "set/test/bee/3.png", pixels(8, 8, 3))
    message = r"1 bad image .*test/bee/3.png: a colour image \(RGB\) among grey ones; set data.channels = 3"
    with pytest.raises(CorruptDataError, match=r"(?s)" + message):
        ingested(tmp_path / "run", address, data={"channels": channels})


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("RGBA", (1, 2, 3, 0), [1, 2, 3]),
        ("L", 9, [9, 9, 9]),
        ("LA", (9, 0), [9, 9, 9]),
        ("1", 1, [255, 255, 255]),
        ("CMYK", (255, 0, 0, 0), [0, 255, 255]),
    ],
)
def test_every_mode_becomes_three_channels(mode: str, colour: Any, expected: list[int]) -> None:
    x = to_canvas(Image.new(mode, (4, 4), colour), 4, 3, resize=False)
    assert x.shape == (3, 4, 4)
    assert x.flags.c_contiguous
    assert x[:, 0, 0].tolist() == expected


def test_palette_gives_its_colours() -> None:
    image = Image.fromarray(np.full((4, 4, 3), (10, 200, 30), np.uint8)).quantize()
    assert image.mode == "P"
    assert to_canvas(image, 4, 3, resize=False)[:, 0, 0].tolist() == [10, 200, 30]


@pytest.mark.parametrize(("mode", "colour", "expected"), [("L", 9, 9), ("LA", (9, 0), 9), ("1", 1, 255)])
def test_grey_modes_become_one_channel(mode: str, colour: Any, expected: int) -> None:
    x = to_canvas(Image.new(mode, (4, 4), colour), 4, 1, resize=False)
    assert x.shape == (1, 4, 4)
    assert (x == expected).all()


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_images_of_more_than_eight_bits_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=f"'{mode}' images, of more than 8 bits, are not supported"):
        to_canvas(Image.new(mode, (4, 4)), 4, 1, resize=False)


@pytest.mark.parametrize(
    ("size", "resized"), [((12, 8), (8, 8)), ((8, 12), (8, 8)), ((40, 9), (8, 8)), ((1, 30), (8, 8))]
)
def test_any_size_is_resized_to_the_canvas(size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert to_canvas(Image.new("L", size), 8, 1, resize=True).shape[1:] == resized


def test_size_that_is_not_the_canvas_is_refused_without_resizing() -> None:
    with pytest.raises(ValueError, match=r"12x8 pixels where 8x8 are expected; set data\.canvas to resize"):
        to_canvas(Image.new("L", (12, 8)), 8, 1, resize=False)
