"""Data sets by address: folder:DIR, a tree of image files."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.sources import open_source
from tests.images import image_file, pixels, refused, tree


@pytest.mark.parametrize(
    ("splits", "test"),
    [(("train", "test"), "test"), (("train", "val"), "val"), (("train", "val", "test"), "test")],
)
def test_folder_is_tested_on_test_or_else_on_val(tmp_path: Path, splits: tuple[str, ...], test: str) -> None:
    source = open_source(tree(tmp_path, *splits))
    assert source.classes == ("ant", "bee")
    for name, split in (("train", source.train), (test, source.test)):
        assert split.labels.tolist() == [0] * 6 + [1] * 6
        assert split.name(7) == str(tmp_path / name / "bee" / "1.png")
        with Image.open(tmp_path / name / "bee" / "1.png") as image:
            np.testing.assert_array_equal(np.asarray(split.load(7)), np.asarray(image))


def test_folder_takes_images_of_several_kinds_and_leaves_other_files(tmp_path: Path) -> None:
    address = tree(tmp_path, "train", "test", count=1)
    image_file(tmp_path / "train/ant/deeper/B.JPG", pixels(8, 8, 3))
    image_file(tmp_path / "train/ant/c.webp", pixels(8, 8, 3))
    (tmp_path / "train/ant/notes.txt").write_text("no image")
    (tmp_path / "train/loose.txt").write_text("no class")
    source = open_source(address)
    names = {Path(source.train.name(i)).name for i in range(len(source.train.labels))}
    assert names == {"0.png", "B.JPG", "c.webp"}
    assert source.train.labels.tolist() == [0, 0, 0, 1]


def test_class_may_lack_test_images(tmp_path: Path) -> None:
    address = tree(tmp_path, "train", "test")
    for file in (tmp_path / "test/ant").iterdir():
        file.unlink()
    assert open_source(address).test.labels.tolist() == [1] * 6
    (tmp_path / "test/ant").rmdir()
    assert open_source(address).test.labels.tolist() == [1] * 6


@pytest.mark.parametrize(
    ("splits", "lacks"),
    [((), "train/ and no test/ or val/"), (("test",), "train/"), (("train",), "test/ or val/")],
)
def test_folder_without_its_splits_is_refused(tmp_path: Path, splits: tuple[str, ...], lacks: str) -> None:
    (tmp_path / "set").mkdir()
    message = refused(ConfigError, tree(tmp_path / "set", *splits))
    assert message == f"{tmp_path / 'set'} has no {lacks} folder"


def test_relative_folder_that_is_missing_is_named_with_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(ConfigError, "folder:gone").startswith(f"{tmp_path / 'gone'} is no folder; give")


def test_folder_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    message = refused(ConfigError, f"folder:{tmp_path}")
    assert message == f"{tmp_path / 'train'} has no folders in it: expected one for each class"


def test_folder_of_one_class_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        image_file(tmp_path / split / "ant" / "0.png", pixels(8, 8))
    assert "all training images are of one class, 'ant'" in refused(ConfigError, f"folder:{tmp_path}")


def test_folder_with_an_empty_class_is_refused(tmp_path: Path) -> None:
    address = tree(tmp_path, "train", "test")
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir()
        (tmp_path / "train" / name / "notes.txt").write_text("no image")
    message = refused(ConfigError, address)
    assert message.startswith(f"{address} has no training images of 2 of 4 classes: 'cat', 'dog'; leave the class out")


def test_folder_with_an_empty_test_split_is_refused(tmp_path: Path) -> None:
    address = tree(tmp_path, "train", "test", count=1)
    for file in tmp_path.glob("test/*/*.png"):
        file.unlink()
    assert refused(ConfigError, address) == f"{address} has no test images"


def test_test_images_of_a_class_that_is_not_trained_are_refused(tmp_path: Path) -> None:
    address = tree(tmp_path, "train", "test")
    image_file(tmp_path / "test/cat/0.png", pixels(8, 8, 3))
    message = f"{tmp_path / 'test'} has classes that {tmp_path / 'train'} lacks: cat"
    assert refused(ConfigError, address) == message


def test_pipe_among_the_images_is_a_bad_image_and_nothing_to_wait_for(tmp_path: Path) -> None:
    address = tree(tmp_path, "train", "test")
    os.mkfifo(tmp_path / "train/ant/pipe.png")
    split = open_source(address).train
    names = [split.name(i) for i in range(len(split.labels))]
    with pytest.raises(ValueError, match="no regular file"):
        split.load(names.index(str(tmp_path / "train/ant/pipe.png")))


def test_what_is_not_taken_and_what_is_missing_is_noted(tmp_path: Path) -> None:
    address = tree(tmp_path, "train", "val")
    assert open_source(address).notes == ()
    (tmp_path / "train/ant/a.TXT").write_text("no image")
    (tmp_path / "train/cat").mkdir()
    image_file(tmp_path / "train/cat/0.png", pixels(8, 8, 3))
    (tmp_path / "val/.DS_Store").write_bytes(b"")
    ends = "(images end in .jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp)"
    assert open_source(address).notes == (
        f"not taken from {tmp_path / 'train'}: 1 .txt {ends}",
        f"not taken from {tmp_path / 'val'}: 1 hidden {ends}",
        f"{tmp_path / 'val'} has no images of 1 of 3 classes: 'cat'",
    )


def test_of_many_classes_without_images_ten_are_named(tmp_path: Path) -> None:
    address = tree(tmp_path, "train", "test")
    for i in range(13):
        (tmp_path / f"train/none{i:02}").mkdir()
    message = refused(ConfigError, address)
    assert "13 of 15 classes: 'none00', " in message
    assert "'none09' and 3 more; leave the class out" in message


def test_hidden_folder_is_no_class(tmp_path: Path) -> None:
    address = tree(tmp_path, "train", "test")
    for split in ("train", "test"):
        image_file(tmp_path / split / ".ipynb_checkpoints/0.png", pixels(8, 8, 3))
    source = open_source(address)
    assert source.classes == ("ant", "bee")
    assert all("1 hidden " in note for note in source.notes)


def test_class_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    address = tree(tmp_path, "train", "test")
    for split in ("train", "test"):
        os.rename(tmp_path / split / "ant", os.fsencode(tmp_path / split) + b"/caf\xe9")
    assert "is not UTF-8; rename it" in refused(ConfigError, address)
