"""Listing image files: torchvision's order, links, and what is counted instead of taken."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from pipeline.folders import EXTENSIONS, class_folders, left_out_note, list_images


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def listed(root: Path) -> list[str]:
    listing = list_images(str(root), class_folders(str(root)))
    return [os.path.relpath(listing.path(i), root) for i in range(len(listing.names))]


def test_images_and_labels_are_those_of_torchvision_in_its_order(tmp_path: Path) -> None:
    files(tmp_path, "b/2.png", "b/10.png", "b/x/1.jpg", "b/x-y/1.jpg", "b/x/z/3.JPEG", "b/x.png", "b/y.txt")
    files(tmp_path, "a/Z.webp", "a/a.TIF", "a/folder.png/1.ppm", "c/d.bmp", "c/d.pgm", "c/d.tiff")
    (tmp_path / "c/link").symlink_to("../b/x")
    (tmp_path / "c/link.png").symlink_to("../b/2.png")
    (tmp_path / "c/dangling.png").symlink_to("nowhere")
    listing = list_images(str(tmp_path), class_folders(str(tmp_path)))
    theirs = make_dataset(str(tmp_path), {"a": 0, "b": 1, "c": 2}, extensions=EXTENSIONS)
    ours = [(listing.path(i), int(label)) for i, label in enumerate(listing.labels)]
    assert ours == theirs
    assert EXTENSIONS == IMG_EXTENSIONS


def test_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    files(tmp_path, "a/x.jpg/1.png", "a/y.jpg/notes")
    assert listed(tmp_path) == ["a/x.jpg/1.png"]


def test_what_is_not_taken_is_counted_by_kind(tmp_path: Path) -> None:
    files(tmp_path, "a/1.png", "a/1.txt", "a/deep/2.TXT", "a/README", "a/._1.png", "a/.cache/1.png", "loose.png")
    files(tmp_path, ".DS_Store", "a/1.png.bak")
    listing = list_images(str(tmp_path), ["a"])
    assert listed(tmp_path) == ["a/1.png"]
    assert listing.left_out == {
        ".txt": 2,
        "without an extension": 1,
        "hidden": 3,
        "outside the class folders": 1,
        ".bak": 1,
    }


def test_note_has_the_frequent_kinds_first_and_sums_up_the_rest() -> None:
    counts = Counter({f".{name}": 2 for name in "abcdef"}) + Counter({".txt": 1234, ".z": 1})
    note = left_out_note("DIR", counts)
    assert note.startswith("not taken from DIR: 1,234 .txt, 2 .a, 2 .b, 2 .c, 2 .d, 2 .e, 3 of other kinds (images end")


def test_link_back_to_a_folder_above_is_counted_and_not_followed(tmp_path: Path) -> None:
    files(tmp_path, "a/1.png", "a/deep/2.png")
    (tmp_path / "a/deep/loop").symlink_to("..")
    (tmp_path / "a/self.png").symlink_to("self.png")
    assert listed(tmp_path) == ["a/1.png", "a/self.png", "a/deep/2.png"]
    assert list_images(str(tmp_path), ["a"]).left_out == {"links to a folder above": 1}


def test_class_that_the_split_lacks_has_no_images(tmp_path: Path) -> None:
    files(tmp_path, "b/1.png")
    assert list_images(str(tmp_path), ["a", "b"]).labels.tolist() == [1]


def test_folder_that_cannot_be_read_is_an_error_and_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, "a/1.png", "a/deep/2.png")
    untouched = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return untouched(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="deep"):
        listed(tmp_path)


def test_listing_takes_no_whole_path_for_each_image(tmp_path: Path) -> None:
    files(tmp_path, *(f"a/{i}.png" for i in range(50)), *(f"b/{i}.png" for i in range(50)))
    listing = list_images(str(tmp_path), ["a", "b"])
    assert listing.folders == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert sorted(listing.names) == sorted(2 * [f"{i}.png" for i in range(50)])
    assert listing.folder.nbytes == 400
