"""What ingest refuses, what it says, and that nothing half done is left behind."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from cache import StoreWriter
from pipeline.bad_images import BAD_IMAGES, read_bad_images
from pipeline.data_info import check_same_data
from pipeline.errors import CascadeError, ConfigError, CorruptDataError, RefusedError
from tests.images import arrays, config, encoded, image_file, ingested, npz, pixels, tree
from tests.test_ingest import ids, images_of


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(kind: type[CascadeError], run: Path, source: str, **sections: Any) -> str:
    """The message with which ingest refuses, having written nothing but a list of bad images."""
    with pytest.raises(CascadeError) as caught:
        ingested(run, source, **sections)
    assert type(caught.value) is kind
    assert left_in(run) == ([BAD_IMAGES] if BAD_IMAGES in str(caught.value) else [])
    return str(caught.value)


def test_bad_images_of_every_split_are_reported_in_one_error(tmp_path: Path) -> None:
    address = tree(tmp_path / "set", "train", "test", count=50)
    jpeg = image_file(tmp_path / "set/train/ant/50.jpg", pixels(8, 8, 3))
    jpeg.write_bytes(jpeg.read_bytes()[:-20])
    (tmp_path / "set/train/bee/51.png").write_text("no image")
    (tmp_path / "set/train/bee/52.png").write_bytes(b"")
    image_file(tmp_path / "set/test/ant/53.png", pixels(8, 9, 3))
    image_file(tmp_path / "set/test/ant/54.tif", pixels(8, 8).astype(np.int32))
    first, *lines, listed, remedy = refused(CorruptDataError, tmp_path / "run", address).splitlines()
    assert first == f"5 bad images in {address}, nothing was written:"
    expected = [
        ("train/ant/50.jpg", "image file is truncated"),
        ("train/bee/51.png", "not recognised as JPEG, PNG, "),
        ("train/bee/52.png", "an empty file"),
        ("test/ant/53.png", "9x8 pixels where 8x8 are expected; set data.canvas to resize"),
        ("test/ant/54.tif", "'I' images, of more than 8 bits, are not supported"),
    ]
    assert len(lines) == len(expected)
    for line, (name, reason) in zip(lines, expected, strict=True):
        assert line.startswith(f"  {tmp_path / 'set' / name}: {reason}")
    assert listed == f"all of them, one a line: {tmp_path / 'run' / BAD_IMAGES}; the next ingest tries these first"
    assert remedy.startswith("next: change [data] as said, or take these images away")
    assert [image.name for image in read_bad_images(tmp_path / "run" / BAD_IMAGES)] == [
        str(tmp_path / "set" / name) for name, _ in expected
    ]


def test_of_many_bad_images_ten_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    address = tree(tmp_path / "set", "train", "test", count=30)
    for file in (tmp_path / "set/test").rglob("1*.png"):
        file.write_bytes(b"")
    message = refused(CorruptDataError, tmp_path / "run", address)
    assert message.startswith(f"22 bad images in {address}, nothing was written:\n")
    assert message.count("an empty file") == 10
    assert "\n  and 12 more\nall of them, one a line: " in message
    assert message.endswith("\nnext: mend them or take them away, or leave them out: the same command with --skip-bad")
    assert len(read_bad_images(tmp_path / "run" / BAD_IMAGES)) == 22


def test_ingest_of_truncated_images_by_order_of_the_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    message = refused(RefusedError, tmp_path / "run", npz(tmp_path / "a.npz"))
    assert message.startswith("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set in this process: truncated images would go")


def test_warnings_of_metadata_are_not_shown_and_make_no_image_bad(tmp_path: Path) -> None:
    address = tree(tmp_path / "set", "train", "test")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01"
    data = encoded(Image.fromarray(pixels(8, 8, 3)), "JPEG", exif=exif)
    (tmp_path / "set/train/ant/6.jpg").write_bytes(data)
    filters = list(warnings.filters)
    assert sum(ingested(tmp_path / "run", address).samples.values()) == 25
    assert warnings.filters == filters


def test_what_was_not_taken_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = tree(tmp_path / "set", "train", "test")
    (tmp_path / "set/train/ant/notes.txt").write_text("no image")
    ingested(tmp_path / "run", address)
    assert capsys.readouterr().err.count(f"not taken from {tmp_path / 'set/train'}: 1 .txt") == 1
    ingested(tmp_path / "run", address)
    assert "not taken" not in capsys.readouterr().err


def test_data_set_without_one_readable_image_is_refused(tmp_path: Path) -> None:
    address = tree(tmp_path / "set", "train", "test")
    for file in (tmp_path / "set").rglob("*.png"):
        file.write_text("no image")
    message = refused(CorruptDataError, tmp_path / "run", address)
    assert message.startswith("none of the images tried can be read, among them ")
    assert message.endswith("train/ant/0.png")


@pytest.mark.parametrize("shape", [(8, 9), (9, 8, 3)])
def test_images_that_are_no_squares_are_refused_without_a_canvas(tmp_path: Path, shape: tuple[int, ...]) -> None:
    source = npz(tmp_path / "a.npz", **arrays(shape=shape))
    message = refused(ConfigError, tmp_path / "run", source)
    assert message == (
        f"images are not all squares of one size ({shape[1]}x{shape[0]}); set data.canvas to the side to resize to"
    )


def test_images_of_several_sizes_are_refused_without_a_canvas(tmp_path: Path) -> None:
    address = tree(tmp_path / "set", "train", "test")
    image_file(tmp_path / "set/train/ant/9.png", pixels(10, 10, 3))
    message = refused(ConfigError, tmp_path / "run", address)
    assert "not all squares of one size (8x8, 10x10); set data.canvas" in message


def test_crop_larger_than_the_images_is_refused_before_and_after_the_ingest(tmp_path: Path) -> None:
    source = npz(tmp_path / "a.npz")
    message = "augment.crop = 9 is larger than the images, 8x8"
    assert refused(ConfigError, tmp_path / "run", source, augment={"crop": 9}) == message
    info = ingested(tmp_path / "run", source, augment={"crop": 8})
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_same_data(info, config(source, augment={"crop": 9}), tmp_path / "run")


def test_share_that_holds_out_no_image_is_refused(tmp_path: Path) -> None:
    message = refused(ConfigError, tmp_path / "run", npz(tmp_path / "a.npz"), data={"validation": 0.01})
    assert message.startswith("data.validation = 0.01 holds out no image: no class has more than 14; take a larger")


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ({"validation": 0.3}, "data.validation = 0.1 (now 0.3)"),
        ({"seed": 1}, "data.seed = 0 (now 1)"),
        ({"canvas": 16}, "data.canvas = 0 (now 16)"),
        ({"channels": 3, "seed": 2}, "data.channels = 0 (now 3), data.seed = 0 (now 2)"),
        ({"source": "digits:"}, "data.source = 'npz:"),
    ],
)
def test_changed_data_section_is_refused_with_what_changed(
    tmp_path: Path, section: dict[str, Any], change: str
) -> None:
    source = npz(tmp_path / "a.npz")
    ingested(tmp_path / "run", source)
    before = images_of(tmp_path / "run", "train")
    with pytest.raises(RefusedError, match=re.escape(f"was ingested with {change}")) as caught:
        ingested(tmp_path / "run", source, data=section)
    assert str(caught.value).endswith(f"or delete {tmp_path / 'run/x_0'} and ingest again")
    np.testing.assert_array_equal(images_of(tmp_path / "run", "train"), before)


@pytest.mark.parametrize("run", [12, 20])
def test_runs_that_are_no_multiple_of_those_ingested_are_refused(tmp_path: Path, run: int) -> None:
    source = npz(tmp_path / "a.npz")
    ingested(tmp_path / "run", source)
    message = f"was ingested with order.run = 8; order.run = {run} is no multiple\nnext: take a multiple, or delete"
    with pytest.raises(RefusedError, match=re.escape(message)):
        ingested(tmp_path / "run", source, order={"run": run, "window": 4 * run})


def test_x_0_that_no_ingest_finished_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run/x_0").mkdir(parents=True)
    (tmp_path / "run/x_0/mine").write_text("precious")
    with pytest.raises(RefusedError, match=r"has no ingest\.json: it is not the x_0 of a finished ingest\nnext: move"):
        ingested(tmp_path / "run", npz(tmp_path / "a.npz"))
    assert (tmp_path / "run/x_0/mine").read_text() == "precious"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"classes": ["\xff"]}', b'{"classes": 3}'])
def test_damaged_record_is_refused_with_what_to_do(tmp_path: Path, data: bytes) -> None:
    source = npz(tmp_path / "a.npz")
    ingested(tmp_path / "run", source)
    (tmp_path / "run/x_0/ingest.json").write_bytes(data)
    with pytest.raises(CorruptDataError, match=r"ingest.json is damaged: .*\nnext: delete .*x_0 and ingest again"):
        ingested(tmp_path / "run", source)


@pytest.mark.parametrize("where", ["write", "commit"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_ingest_that_breaks_off_leaves_nothing_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, split: str, error: type[BaseException]
) -> None:
    source = npz(tmp_path / "a.npz")
    untouched = getattr(StoreWriter, where)

    def break_off(writer: StoreWriter, *args: Any, **kwargs: Any) -> None:
        if writer.path.name == split:
            raise error("broken off")
        untouched(writer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, where, break_off)
        with pytest.raises(error, match="broken off"):
            ingested(tmp_path / "run", source)
    assert left_in(tmp_path / "run") == []
    assert ingested(tmp_path / "run", source).samples == {"train": 37, "validation": 3, "test": 12}


def test_what_a_killed_ingest_left_is_swept_by_the_next(tmp_path: Path) -> None:
    ingested(tmp_path / "run", npz(tmp_path / "a.npz"))
    (tmp_path / "run/x_0").rename(tmp_path / "run/x_0.partial")
    other = npz(tmp_path / "b.npz", train_images=pixels(40, 8, 8, seed=9))
    ingested(tmp_path / "run", other)
    assert left_in(tmp_path / "run") == ["x_0"]
    expected = pixels(40, 8, 8, seed=9)[ids(tmp_path / "run", "train")]
    np.testing.assert_array_equal(images_of(tmp_path / "run", "train")[:, 0], expected)
