"""All images of a data set in one, and the classes that have enough of them."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.experiments.pool import open_pool, with_enough
from pipeline.sources import open_source
from tests.images import arrays, image_file, npz, pixels, tree


def flat(root: Path, **counts: int) -> str:
    """DIR/CLASS/N.png, without a split; returns the address."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            image_file(root / name / f"{i}.png", pixels(8, 8, 3, seed=i))
    return f"folder:{root}"


def test_training_images_come_first_and_then_those_for_testing(tmp_path: Path) -> None:
    address = npz(tmp_path / "images.npz", **arrays(train=9, test=6))
    pool, source = open_pool(address), open_source(address)
    assert pool.labels.tolist() == [*source.train.labels, *source.test.labels]
    assert np.array_equal(np.asarray(pool.load(8)), np.asarray(source.train.load(8)))
    assert np.array_equal(np.asarray(pool.load(9)), np.asarray(source.test.load(0)))
    assert pool.name(9) == "test_images[0]"


def test_a_folder_of_classes_without_a_split_is_taken_as_it_is(tmp_path: Path) -> None:
    pool = open_pool(flat(tmp_path / "flat", ant=3, bee=2))
    assert (pool.labels.tolist(), pool.classes) == ([0, 0, 0, 1, 1], ("ant", "bee"))
    assert pool.load(4).size == (8, 8)


def test_a_folder_with_a_split_has_both_parts(tmp_path: Path) -> None:
    assert len(open_pool(tree(tmp_path, "train", "val", count=3)).labels) == 12


@pytest.mark.parametrize(("address", "reason"), [("digits:x", "--data 'digits:x'"), ("nothing", "--data 'nothing'")])
def test_a_wrong_address_is_named_as_the_option(address: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"{reason}.*\nnext: .*another --data"):
        open_pool(address)


def test_only_the_part_of_a_split_that_is_missing_is_named(tmp_path: Path) -> None:
    address = tree(tmp_path / "only", "train", count=2)
    with pytest.raises(ConfigError, match=r"/only has no test/ or val/ folder\nnext: "):
        open_pool(address)


def test_a_class_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    address = flat(tmp_path / "flat", ant=2, bee=2)
    os.rename(tmp_path / "flat" / "bee", os.fsencode(tmp_path / "flat") + b"/b\xff")
    with pytest.raises(ConfigError, match=r"the class name 'b\\udcff' is not UTF-8; rename it\nnext: "):
        open_pool(address)


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one class; a classifier needs at least two\nnext: "):
        open_pool(flat(tmp_path / "flat", ant=3))


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no folders in it.*\nnext: "):
        open_pool(f"folder:{tmp_path}")


def test_the_digest_knows_content_of_the_same_size_and_time(tmp_path: Path) -> None:
    addresses = (flat(tmp_path / "flat", ant=2, bee=2), npz(tmp_path / "images.npz", **arrays(train=9, test=6)))
    for address, path in zip(addresses, (tmp_path / "flat" / "ant" / "0.png", tmp_path / "images.npz"), strict=True):
        before, status = open_pool(address).digest, path.stat()
        if path.suffix == ".png":
            data = bytearray(path.read_bytes())
            data[-20] ^= 1
            path.write_bytes(bytes(data))
        else:
            changed = arrays(train=9, test=6)
            changed["train_images"] = 255 - changed["train_images"]
            npz(path, **changed)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_size == status.st_size
        assert open_pool(address).digest != before


def test_the_digest_of_an_array_file_does_not_go_by_its_time(tmp_path: Path) -> None:
    address = npz(tmp_path / "images.npz", **arrays(train=9, test=6))
    before = open_pool(address).digest
    os.utime(tmp_path / "images.npz", ns=(1, 1))
    assert open_pool(address).digest == before


def test_the_digest_knows_an_image_that_was_replaced(tmp_path: Path) -> None:
    address = flat(tmp_path / "flat", ant=2, bee=2)
    before = open_pool(address).digest
    assert open_pool(address).digest == before
    os.utime(tmp_path / "flat" / "ant" / "0.png", ns=(1, 1))
    assert open_pool(address).digest != before


def test_a_class_needs_one_image_more_than_are_trained_on(tmp_path: Path) -> None:
    pool = open_pool(flat(tmp_path / "flat", ant=3, bee=2, cat=4))
    assert with_enough(pool, 1, skip_small=False) == (pool, [])
    with pytest.raises(ConfigError, match=r"1 of 3 classes have less than 3 images.*'bee' \(2\)\nnext: --per-class 1"):
        with_enough(pool, 2, skip_small=False)


def test_small_classes_are_left_out_on_request_and_the_others_keep_their_images(tmp_path: Path) -> None:
    pool = open_pool(flat(tmp_path / "flat", ant=3, bee=2, cat=4))
    kept, left_out = with_enough(pool, 2, skip_small=True)
    assert (left_out, kept.classes, kept.labels.tolist()) == (["bee"], ("ant", "cat"), [0, 0, 0, 1, 1, 1, 1])
    assert kept.name(3) == pool.name(5)


def test_two_classes_have_to_stay(tmp_path: Path) -> None:
    pool = open_pool(flat(tmp_path / "flat", ant=3, bee=2))
    with pytest.raises(ConfigError, match="less than two classes have 3 images"):
        with_enough(pool, 2, skip_small=True)
