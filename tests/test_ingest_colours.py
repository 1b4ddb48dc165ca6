"""Grey and colour images in one data set: how many channels x_0 has."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import CorruptDataError
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
