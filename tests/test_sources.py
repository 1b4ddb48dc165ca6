"""Data sets by address: npz:FILE and digits:, what they give, and what is wrong with those that are refused."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ConfigError, CorruptDataError
from pipeline.sources import Split, open_source
from tests.images import arrays, npz, pixels, refused


def loaded(split: Split) -> list[Any]:
    """The pixels of every image."""
    return [np.asarray(split.load(i)) for i in range(len(split.labels))]


def test_digits_are_those_of_scikit_learn_each_once_in_one_split() -> None:
    from sklearn.datasets import load_digits

    source = open_source("digits:")
    assert source.classes == tuple("0123456789")
    assert (len(source.train.labels), len(source.test.labels)) == (1442, 355)
    share = np.bincount(source.test.labels) / np.bincount(load_digits().target)
    assert share.min() > 0.19
    assert share.max() < 0.21
    ours = sorted(image.tobytes() for split in (source.train, source.test) for image in loaded(split))
    theirs = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert ours == sorted(image.tobytes() for image in theirs)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3), (5, 9)])
@pytest.mark.parametrize("column", [False, True])
def test_npz_gives_its_images_and_labels(tmp_path: Path, shape: tuple[int, ...], column: bool) -> None:
    entries = arrays(shape=shape)
    given = {**entries, "train_labels": entries["train_labels"][:, None]} if column else entries
    source = open_source(npz(tmp_path / "a.npz", **given))
    for name, split in (("train", source.train), ("test", source.test)):
        images = entries[f"{name}_images"]
        np.testing.assert_array_equal(loaded(split), images[..., 0] if shape[2:] == (1,) else images)
        np.testing.assert_array_equal(split.labels, entries[f"{name}_labels"])
        assert split.labels.dtype == np.int64
    assert source.train.load(0).mode == ("RGB" if shape[2:] == (3,) else "L")
    assert source.classes == ("0", "1", "2")
    assert source.train.name(4) == "train_images[4]"


def test_npz_may_name_its_classes_and_be_compressed(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **arrays(), class_names=np.array(["ant", "bee", "cat"]))
    assert open_source(f"npz:{tmp_path / 'a.npz'}").classes == ("ant", "bee", "cat")


def test_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz(tmp_path / "a.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(open_source("npz:~/a.npz").train.labels) == 40


@pytest.mark.parametrize("address", ["", "digits", "mnist", "hf:mnist", "/data/a.npz", ":", "NPZ:a.npz"])
def test_unknown_address_is_refused_with_those_that_exist(address: str) -> None:
    message = refused(ConfigError, address)
    assert message == f"data.source = {address!r}: expected digits:, npz:FILE, folder:DIR or torchvision:NAME"


def test_digits_take_no_place() -> None:
    assert "digits: stands alone" in refused(ConfigError, "digits:x")


@pytest.mark.parametrize("place", ["missing.npz", "", "~nobody7/a.npz"])
def test_missing_npz_is_refused_with_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(ConfigError, f"npz:{place}").startswith(f"{tmp_path / place} is no file; give data.source")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"test_images": None, "test_labels": None},
            r" lacks test_images, test_labels; it has train_images, train_labels",
        ),
        (
            {"train_images": pixels(40, 8, 8).astype(float)},
            "train_images is float64 of shape (40, 8, 8); expected uint8",
        ),
        (
            {"train_images": pixels(40, 64)},
            "train_images is uint8 of shape (40, 64); expected uint8 of shape (N, H, W)",
        ),
        ({"train_images": pixels(40, 0, 8)}, "train_images is uint8 of shape (40, 0, 8); expected uint8"),
        ({"test_images": pixels(12, 3, 8, 8)}, "test_images is uint8 of shape (12, 3, 8, 8); expected"),
        (
            {"train_labels": np.arange(39)},
            "train_labels is int64 of shape (39,); expected one integer for each of the 40",
        ),
        ({"test_labels": np.zeros(12)}, "test_labels is float64 of shape (12,); expected one integer"),
        ({"test_labels": np.zeros((12, 2), int)}, "test_labels is int64 of shape (12, 2); expected one integer"),
        ({"train_images": pixels(0, 8, 8), "train_labels": np.zeros(0, int)}, " has no training images"),
        ({"test_images": pixels(0, 8, 8), "test_labels": np.zeros(0, int)}, " has no test images"),
        (
            {"train_labels": np.zeros(40, int), "test_labels": np.zeros(12, int)},
            ": all training images are of one class, '0'; a classifier needs",
        ),
        (
            {"train_labels": 1 + np.arange(40) % 3},
            " has no training images of 1 of 4 classes: '0'; leave the class",
        ),
        (
            {"class_names": np.array(["a", "b", "c", "d", "e"])},
            " has no training images of 2 of 5 classes: 'd', 'e'; leave",
        ),
        ({"class_names": np.array("abc")}, "class_names is <U3 of shape (); expected one string for each class"),
        ({"class_names": np.array([b"a", b"b", b"c"])}, "class_names is |S1 of shape (3,); expected one string"),
    ],
)
def test_npz_that_is_no_data_set_is_refused_with_what_is_expected(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    assert message in refused(ConfigError, npz(tmp_path / "a.npz", **changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"train_labels": np.arange(40) % 3 - 1},
            "14 labels of the training images lie outside 0..1, the first is -1, of train_images[0]",
        ),
        (
            {"test_labels": np.arange(12)},
            "9 labels of the test images lie outside 0..2, the first is 3, of test_images[3]",
        ),
        ({"class_names": np.array(["a", "b"])}, "13 labels of the training images lie outside 0..1, the first is 2"),
        ({"train_labels": np.r_[np.arange(39) % 3, 10**9]}, "a label 1000000000 among 40 training images"),
        (
            {"train_labels": np.full(40, 2**63, np.uint64)},
            "train_labels: 40 labels lie outside 0..9223372036854775807, the first is 9223372036854775808, at 0",
        ),
    ],
)
def test_labels_out_of_range_are_counted_and_the_first_is_named(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    assert message in refused(CorruptDataError, npz(tmp_path / "a.npz", **changed))


def damage(path: Path, how: str) -> None:
    """Write what ends in .npz and is none of ours."""
    npz(path)
    data = path.read_bytes()
    match how:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("no zip file")
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "flipped":
            middle = data.index(b"\x93NUMPY") + 200
            path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        case "flipped, compressed":
            np.savez_compressed(path, **arrays())
            data = path.read_bytes()
            path.write_bytes(data[:150] + bytes(byte ^ 0xFF for byte in data[150:160]) + data[160:])
        case "array":
            with path.open("wb") as file:
                np.save(file, np.arange(3))
        case "pickle":
            path.write_bytes(pickle.dumps({"train_images": 1}))
        case "pickled labels":
            npz(path, train_labels=np.array([{"label": 1}] * 40, object))
        case "members that are no arrays":
            with zipfile.ZipFile(path, "w") as archive:
                for key in arrays():
                    archive.writestr(f"{key}.npy", "text")


@pytest.mark.parametrize(
    "how", ["empty", "text", "truncated", "flipped", "flipped, compressed", "array", "pickle", "pickled labels"]
)
def test_damaged_npz_and_pickled_objects_are_refused(tmp_path: Path, how: str) -> None:
    damage(tmp_path / "a.npz", how)
    message = refused(CorruptDataError, f"npz:{tmp_path / 'a.npz'}")
    assert message.startswith(f"{tmp_path / 'a.npz'} is not a readable npz file of plain arrays: ")


def test_npz_of_members_that_are_no_arrays_is_refused(tmp_path: Path) -> None:
    damage(tmp_path / "a.npz", "members that are no arrays")
    assert "train_images is " in refused(ConfigError, f"npz:{tmp_path / 'a.npz'}")
