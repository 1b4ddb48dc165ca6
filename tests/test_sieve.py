"""Bad images left out on request: what then is in x_0, and that nothing else changes."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline import images
from pipeline.bad_images import BAD_IMAGES, SKIPPED, BadImage, read_bad_images
from pipeline.errors import CascadeError, CorruptDataError
from pipeline.sources import open_source
from pipeline.splits import split_indices
from tests.conftest import Outcome
from tests.images import config, image_file, ingested, pixels, tree
from tests.test_ingest import ids, images_of, store

BAD = ("train/ant/3.png", "train/bee/7.png", "train/bee/19.png", "test/bee/0.png")
SECTIONS: dict[str, Any] = {"data": {"validation": 0.2}, "store": {"codec": "lz4"}}


def damaged(root: Path, *bad: str, count: int = 20) -> str:
    """A data set of 2 x `count` training and test images, some of them damaged."""
    address = tree(root, "train", "test", count=count)
    for name in bad:
        (root / name).write_bytes((root / name).read_bytes()[:-30])
    return address


def refusal(run: Path, address: str, *, skip_bad: bool = False, **sections: Any) -> str:
    with pytest.raises(CascadeError) as caught:
        ingested(run, address, skip_bad=skip_bad, **SECTIONS | sections)
    assert type(caught.value) is CorruptDataError
    assert not (run / "x_0").exists()
    assert not (run / "x_0.partial").exists()
    return str(caught.value)


def files_of(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are decoded from now on."""
    paths: list[str] = []
    untouched = images.load_image

    def load(path: str) -> Any:
        paths.append(path)
        return untouched(path)

    monkeypatch.setattr("pipeline.sources.load_image", load)
    return paths


def test_bad_images_are_left_out_recorded_and_nothing_else_changes(tmp_path: Path) -> None:
    address = damaged(tmp_path / "set", *BAD)
    info = ingested(tmp_path / "run", address, skip_bad=True, **SECTIONS)
    source = open_source(address)
    whole = split_indices(source, config(address, **SECTIONS).data)
    names = {
        name: [(source.test if name == "test" else source.train).name(i) for i in every]
        for name, every in whole.items()
    }
    bad = {str(tmp_path / "set" / name) for name in BAD}
    for name, every in whole.items():
        expected = [int(i) for i, path in zip(every, names[name], strict=True) if path not in bad]
        assert ids(tmp_path / "run", name) == expected
        assert info.samples[name] == len(expected)
        split = source.test if name == "test" else source.train
        pixels_of = np.stack([np.asarray(split.load(i)).transpose(2, 0, 1) for i in expected])
        np.testing.assert_array_equal(images_of(tmp_path / "run", name), pixels_of)
        np.testing.assert_array_equal(store(tmp_path / "run", name).y, split.labels[expected])
    skipped = read_bad_images(tmp_path / "run/x_0" / SKIPPED)
    assert {image.name for image in skipped} == bad
    assert [image.sample_id for image in skipped if image.split == "test"] == [20]
    assert sum(info.skipped.values()) == len(skipped) == 4
    assert all(image.reason.startswith(("image file is truncated", "Truncated File Read")) for image in skipped)
    assert info.class_counts == [20, 19]
    trained = images_of(tmp_path / "run", "train") / 255
    np.testing.assert_allclose(info.mean, trained.mean((0, 2, 3)), rtol=1e-12)


def test_image_that_turns_out_bad_last_leaves_no_trace_in_mean_or_list(tmp_path: Path) -> None:
    address = damaged(tmp_path / "set")
    source = open_source(address)
    order = split_indices(source, config(address, **SECTIONS).data)["train"]
    last = sorted(order[-3:].tolist(), reverse=True)
    for i in last:
        Path(source.train.name(i)).write_bytes(b"no image")
    info = ingested(tmp_path / "run", address, skip_bad=True, **SECTIONS)
    trained = images_of(tmp_path / "run", "train") / 255
    np.testing.assert_allclose(info.mean, trained.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(info.std, trained.std((0, 2, 3)), rtol=1e-9)
    assert order[-3:].tolist() != last[::-1], "the list is sorted, not as it was found"
    assert [image.sample_id for image in read_bad_images(tmp_path / "run/x_0" / SKIPPED)] == last[::-1]


def test_content_hash_is_that_of_the_images_that_are_there(tmp_path: Path) -> None:
    whole = ingested(tmp_path / "whole", damaged(tmp_path / "set"), skip_bad=True, **SECTIONS)
    assert whole.skipped == {}
    assert not (tmp_path / "whole/x_0" / SKIPPED).exists()
    assert whole.digest == ingested(tmp_path / "usual", f"folder:{tmp_path / 'set'}", **SECTIONS).digest
    fewer = ingested(tmp_path / "fewer", damaged(tmp_path / "set", BAD[0]), skip_bad=True, **SECTIONS)
    assert fewer.digest != whole.digest
    other = ingested(tmp_path / "other", damaged(tmp_path / "set", BAD[1]), skip_bad=True, **SECTIONS)
    assert len({whole.digest, fewer.digest, other.digest}) == 3


def test_repeated_ingest_writes_the_same_bytes_after_a_refusal_too(tmp_path: Path) -> None:
    address = damaged(tmp_path / "set", *BAD)
    ingested(tmp_path / "once", address, skip_bad=True, **SECTIONS)
    ingested(tmp_path / "again", address, skip_bad=True, **SECTIONS)
    refusal(tmp_path / "refused", address)
    ingested(tmp_path / "refused", address, skip_bad=True, **SECTIONS)
    assert files_of(tmp_path / "once") == files_of(tmp_path / "again") == files_of(tmp_path / "refused")


def test_images_that_a_refusal_listed_are_left_out_without_decoding_the_others_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = damaged(tmp_path / "set", *BAD)
    sections = SECTIONS | {"data": {"validation": 0.2, "canvas": 8, "channels": 3}}
    refusal(tmp_path / "run", address, **sections)
    paths = decodings(monkeypatch)
    ingested(tmp_path / "run", address, skip_bad=True, **sections)
    assert len(paths) == len(set(paths)) == 80
    assert not (tmp_path / "run" / BAD_IMAGES).exists()


def test_image_that_is_listed_and_still_bad_is_refused_at_once_and_a_mended_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = damaged(tmp_path / "set", *BAD)
    sections = SECTIONS | {"data": {"validation": 0.2, "canvas": 8, "channels": 3}}
    assert refusal(tmp_path / "run", address, **sections).startswith("4 bad images")
    image_file(tmp_path / "set" / BAD[0], pixels(8, 8, 3))
    with monkeypatch.context() as patch:
        paths = decodings(patch)
        message = refusal(tmp_path / "run", address, **sections)
        assert message.startswith(f"3 bad images in {address}, of those that were bad before; nothing was written")
        assert sorted(paths) == sorted(str(tmp_path / "set" / name) for name in BAD)
    (tmp_path / "set" / BAD[1]).unlink()  # which gives other sample ids to those after it
    with monkeypatch.context() as patch:
        paths = decodings(patch)
        assert refusal(tmp_path / "run", address, **sections).startswith("2 bad images")
        assert sorted(paths) == sorted(str(tmp_path / "set" / name) for name in BAD[2:])
    for name in BAD[2:]:
        image_file(tmp_path / "set" / name, pixels(8, 8, 3))
    assert sum(ingested(tmp_path / "run", address, **sections).samples.values()) == 79


@pytest.mark.parametrize("name", ["train/ant/0.png", "elsewhere/0.png", None])
def test_list_is_a_hint_and_leaves_nothing_out_by_itself(tmp_path: Path, name: str | None) -> None:
    address = damaged(tmp_path / "set")
    (tmp_path / "run").mkdir()
    listed = BadImage(split="moon", sample_id=2**70, name=str(tmp_path / "set" / (name or "")), reason="")
    (tmp_path / "run" / BAD_IMAGES).write_bytes(msgspec.json.encode(listed) if name else b"no list")
    assert ingested(tmp_path / "run", address, skip_bad=True, **SECTIONS).skipped == {}


def test_class_without_a_training_image_left_is_an_error(tmp_path: Path) -> None:
    address = damaged(tmp_path / "set", *(f"train/bee/{i}.png" for i in range(4)), count=4)
    message = refusal(tmp_path / "run", address, skip_bad=True, data={"validation": 0})
    assert message.startswith(f"4 bad images in {address}, and no train image of class 'bee' is left without them; ")
    assert message.endswith("next: mend them, or change the data set")


def test_test_split_without_an_image_left_is_an_error_and_a_test_class_may_go(tmp_path: Path) -> None:
    address = damaged(tmp_path / "set", *(f"test/bee/{i}.png" for i in range(4)), count=4)
    info = ingested(tmp_path / "run", address, skip_bad=True, data={"validation": 0})
    assert (info.samples["test"], info.class_counts) == (4, [4, 0])
    damaged(tmp_path / "set", *(f"test/{name}/{i}.png" for name in ("ant", "bee") for i in range(4)), count=4)
    message = refusal(tmp_path / "other", address, skip_bad=True, data={"validation": 0})
    assert ", and no test image is left without them; nothing was written" in message


def test_images_that_do_not_fit_the_config_are_not_left_out(tmp_path: Path) -> None:
    address = damaged(tmp_path / "set", *BAD)
    image_file(tmp_path / "set/test/ant/5.png", pixels(8, 9, 3))
    message = refusal(tmp_path / "run", address, skip_bad=True)
    assert "9x8 pixels where 8x8 are expected; set data.canvas to resize" in message
    assert message.startswith("5 bad images")
    assert message.endswith("--skip-bad leaves out damaged ones alone")


def test_machine_that_fails_is_no_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = damaged(tmp_path / "set")
    untouched = images.load_image

    def failing(path: str) -> Any:
        if path.endswith("bee/3.png"):
            raise OSError(errno.EIO, "Input/output error")
        return untouched(path)

    monkeypatch.setattr("pipeline.sources.load_image", failing)
    with pytest.raises(OSError, match="Input/output error") as caught:
        ingested(tmp_path / "run", address, skip_bad=True, **SECTIONS)
    assert str(caught.value.filename).endswith("bee/3.png")
    assert list((tmp_path / "run").iterdir()) == []


def test_file_name_that_is_no_text_is_shown_and_recorded(tmp_path: Path) -> None:
    address = damaged(tmp_path / "set")
    (tmp_path / "set/train/ant/caf\udce9.png").write_bytes(b"no image")
    image_file(tmp_path / "set/train/ant/th\udce9.png", pixels(8, 8, 3))
    assert "train/ant/caf\\udce9.png: not recognised" in refusal(tmp_path / "run", address)
    info = ingested(tmp_path / "run", address, skip_bad=True, **SECTIONS)
    assert sum(info.samples.values()) == 81
    assert read_bad_images(tmp_path / "run/x_0" / SKIPPED)[0].name.endswith("caf\\udce9.png")


def test_first_bad_images_do_not_hinder_the_choice_of_a_codec(tmp_path: Path) -> None:
    address = damaged(tmp_path / "set", *(f"train/{name}/{i}.png" for name in ("ant", "bee") for i in range(19)))
    info = ingested(tmp_path / "run", address, skip_bad=True, data={"validation": 0})
    assert info.samples["train"] == 2


@pytest.mark.parametrize("command", ["ingest", "run"])
def test_command_leaves_bad_images_out_and_says_how_many(
    tmp_path: Path, cascade: Callable[..., Outcome], command: str
) -> None:
    address, run = damaged(tmp_path / "set", *BAD), tmp_path / "run"
    changes = (f"data.source={address}", "network.stages=1", "network.downsample_at=[]", "train.epochs=1")
    cascade("init", "digits", run, *(part for change in changes for part in ("--set", change)))
    code, _, err = cascade(command, "--run", run)
    assert code == 4
    assert "4 bad images in folder:" in err
    assert "leave them out: the same command with --skip-bad" in err
    code, _, err = cascade(command, "--run", run, "--skip-bad")
    assert code == 0, err
    assert "1 test images that are bad, listed in " in err
    code, _, err = cascade(command, "--run", run)
    assert code == 0, err
    assert "there already" in err
    assert f"listed in {run / 'x_0' / SKIPPED}" in err
    assert json.loads((run / "x_0/ingest.json").read_bytes())["skipped"]["test"] == 1
