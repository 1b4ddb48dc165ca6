"""x_0: exactly the images of the source, decoded once, in an order that depends on data.seed alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from cache import Store
from pipeline.data_info import DataInfo, read_data_info
from pipeline.disk import run_bytes
from pipeline.errors import DiskError
from pipeline.ingest import ingest
from pipeline.progress import Reporter
from pipeline.sources import open_source
from tests.images import arrays, image_file, ingested, npz, pixels, tree
from tests.runs import digits_run


def images_of(folder: Path, split: str) -> NDArray[np.uint8]:
    """The stored images of a split, (N, C, H, W), as zarr-python reads them."""
    x: NDArray[np.uint8] = np.asarray(zarr.open_array(folder / "x_0" / split / "x", mode="r"))[0]
    return x


def store(folder: Path, split: str) -> Store:
    return Store(folder / "x_0" / split)


def ids(folder: Path, split: str) -> list[int]:
    return [int(sample_id) for sample_id in store(folder, split).sample_id]


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_x_0_holds_the_sources_pixels_and_labels_by_sample_id(tmp_path: Path, shape: tuple[int, ...]) -> None:
    entries = arrays(train=41, test=13, shape=shape)
    info = ingested(tmp_path / "run", npz(tmp_path / "a.npz", **entries), data={"validation": 0.2})
    assert list(info.samples) == ["train", "validation", "test"]
    for split in info.samples:
        part = "test" if split == "test" else "train"
        rows = store(tmp_path / "run", split).sample_id
        expected = entries[f"{part}_images"].reshape(-1, 8, 8, info.channels).transpose(0, 3, 1, 2)[rows]
        np.testing.assert_array_equal(images_of(tmp_path / "run", split), expected)
        np.testing.assert_array_equal(store(tmp_path / "run", split).y, entries[f"{part}_labels"][rows])
        assert info.samples[split] == len(rows)
    assert sorted(ids(tmp_path / "run", "train") + ids(tmp_path / "run", "validation")) == list(range(41))
    assert ids(tmp_path / "run", "test") == list(range(13))


def test_digits_arrive_as_they_are(tmp_path: Path) -> None:
    info = ingested(tmp_path, "digits:")
    source = open_source("digits:")
    assert (info.channels, info.side, len(info.classes)) == (1, 8, 10)
    for split, part in (("train", source.train), ("test", source.test)):
        expected = np.stack([np.asarray(part.load(i)) for i in ids(tmp_path, split)])
        np.testing.assert_array_equal(images_of(tmp_path, split)[:, 0], expected)
        np.testing.assert_array_equal(store(tmp_path, split).y, part.labels[ids(tmp_path, split)])


def test_x_0_is_an_ordinary_store_of_bytes(tmp_path: Path) -> None:
    ingested(tmp_path / "run", npz(tmp_path / "a.npz"), store={"codec": "zstd"})
    stored = store(tmp_path / "run", "train")
    assert (stored.encoding, stored.codec, stored.views) == ("identity", "zstd", 1)
    assert stored.dtype == np.uint8
    assert stored.attributes["split"] == "train"


def test_a_share_of_every_class_is_held_out(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    source = npz(tmp_path / "a.npz", train_images=pixels(160, 4, 4), train_labels=labels, test_images=pixels(12, 4, 4))
    info = ingested(tmp_path / "run", source, data={"validation": 0.2})
    assert np.bincount(store(tmp_path / "run", "validation").y).tolist() == [20, 10, 2]
    assert np.bincount(store(tmp_path / "run", "train").y).tolist() == [80, 40, 8]
    assert info.class_counts == [4, 4, 4]


def test_every_class_keeps_an_image_to_train_on(tmp_path: Path) -> None:
    labels = np.repeat([0, 1], [38, 2])
    source = npz(tmp_path / "a.npz", train_labels=labels, test_labels=np.arange(12) % 2)
    ingested(tmp_path / "run", source, data={"validation": 0.95})
    assert np.bincount(store(tmp_path / "run", "train").y).tolist() == [2, 1]


def test_without_a_share_there_is_no_validation_store(tmp_path: Path) -> None:
    info = ingested(tmp_path / "run", npz(tmp_path / "a.npz"), data={"validation": 0})
    assert info.samples == {"train": 40, "test": 12}
    assert sorted(path.name for path in (tmp_path / "run/x_0").iterdir()) == ["ingest.json", "test", "train"]
    assert sorted(ids(tmp_path / "run", "train")) == list(range(40))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_mean_and_deviation_are_those_of_the_training_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = (pixels(41, *shape) // np.array([1, 2, 3] if shape[2:] else 2)).astype(np.uint8)
    entries = arrays(train=41, shape=shape) | {"train_images": images}
    info = ingested(tmp_path / "run", npz(tmp_path / "a.npz", **entries), data={"validation": 0.2})
    trained = images_of(tmp_path / "run", "train") / 255
    np.testing.assert_allclose(info.mean, trained.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(info.std, trained.std((0, 2, 3)), rtol=1e-9)


def test_deviation_of_constant_images_is_not_zero(tmp_path: Path) -> None:
    entries = {"train_images": np.full((40, 8, 8), 7, np.uint8)}
    assert ingested(tmp_path / "run", npz(tmp_path / "a.npz", **entries)).std == [1 / 255]


def test_order_is_a_permutation_that_depends_on_the_datas_seed_alone(tmp_path: Path) -> None:
    source = npz(tmp_path / "a.npz")

    def order(name: str, **sections: Any) -> list[int]:
        ingested(tmp_path / name, source, **sections)
        return ids(tmp_path / name, "train")

    usual = order("usual")
    assert usual != sorted(usual)
    assert order("seed", data={"seed": 1}) != usual
    assert order("whole", data={"validation": 0}) != order("other", data={"validation": 0, "seed": 1})
    assert order("run", order={"run": 16}, machine={"threads": 1}, store={"codec": "none"}, train={"lr": 0.5}) == usual


def changed(entries: dict[str, Any], key: str, index: int, by: int) -> dict[str, Any]:
    array = entries[key].copy()
    array.flat[index] = array.flat[index] + by
    return entries | {key: array}


def test_digest_knows_every_pixel_label_and_name_and_nothing_of_the_machine(tmp_path: Path) -> None:
    entries = arrays()

    def digest(name: str, entries: dict[str, Any], **sections: Any) -> str:
        return ingested(tmp_path / name, npz(tmp_path / f"{name}.npz", **entries), **sections).digest

    usual = digest("usual", entries)
    assert digest("again", entries) == usual
    assert digest("machine", entries, order={"run": 16}, machine={"threads": 1}, store={"codec": "none"}) == usual
    others = [
        digest("pixel", changed(entries, "train_images", 5, 1)),
        digest("test pixel", changed(entries, "test_images", -1, 1)),
        digest("label", changed(entries, "train_labels", 0, 1)),
        digest("test label", changed(entries, "test_labels", 0, 1)),
        digest("names", entries | {"class_names": np.array(["0", "1", "two"])}),
        digest("seed", entries, data={"seed": 1}),
        digest("share", entries, data={"validation": 0.3}),
    ]
    assert len({usual, *others}) == 8


def test_long_side_is_cut_to_its_centre_and_the_short_one_resized(tmp_path: Path) -> None:
    address = tree(tmp_path / "set", "train", "test", count=4)
    for file in (tmp_path / "set").rglob("*.png"):
        side = 4 + 4 * int(file.stem)  # 4, 8, 12, 16: enlarged, kept, made smaller
        blocks = np.repeat([[255, 0, 0], [0, 200, 0], [0, 0, 255]], side, axis=0).astype(np.uint8)
        image = np.broadcast_to(blocks[:, None], (3 * side, side, 3))
        image_file(file, np.ascontiguousarray(image if "ant" in file.parts else image.transpose(1, 0, 2)))
    info = ingested(tmp_path / "run", address, data={"canvas": 8, "validation": 0})
    assert (info.side, info.channels) == (8, 3)
    for split in info.samples:
        stored = images_of(tmp_path / "run", split)
        assert stored.shape[1:] == (3, 8, 8)
        assert np.unique(stored[:, :, 2:-2, 2:-2].transpose(0, 2, 3, 1).reshape(-1, 3), axis=0).tolist() == [
            [0, 200, 0]
        ]


def test_images_of_the_canvas_size_are_not_touched(tmp_path: Path) -> None:
    entries = arrays()
    ingested(tmp_path / "run", npz(tmp_path / "a.npz", **entries), data={"canvas": 8})
    rows = ids(tmp_path / "run", "train")
    np.testing.assert_array_equal(images_of(tmp_path / "run", "train")[:, 0], entries["train_images"][rows])


def test_a_second_ingest_keeps_what_is_there_without_the_source(tmp_path: Path) -> None:
    source = npz(tmp_path / "a.npz")
    first = ingested(tmp_path / "run", source)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    (tmp_path / "a.npz").unlink()
    assert ingested(tmp_path / "run", source, train={"lr": 0.5}, order={"run": 16}) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_record_is_read_back_as_it_was_made(tmp_path: Path) -> None:
    assert read_data_info(tmp_path) is None
    info = ingested(tmp_path / "run", npz(tmp_path / "a.npz", class_names=np.array(["ant", "bée", "c"])))
    assert isinstance(info, DataInfo)
    assert info.classes == ["ant", "bée", "c"]
    assert read_data_info(tmp_path / "run") == info


def test_the_name_of_images_that_are_there_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, synced = digits_run(tmp_path / "run"), list[Path]()
    monkeypatch.setattr("pipeline.ingest.sync", synced.append)
    ingest(run.config, run.path, Reporter())
    assert synced == [run.path], "whoever put x_0 there may have been killed before it was"


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_an_ingest_keeps_within_its_budget_with_all_its_files_or_writes_nothing(
    tmp_path: Path, codec: str, skip_bad: bool
) -> None:
    source, store = npz(tmp_path / "data.npz", **arrays(train=300)), {"codec": codec}
    ingested(tmp_path / "free", source, store=store, skip_bad=skip_bad)
    taken, outcomes = run_bytes(tmp_path / "free"), []
    for more in (-5000, -500, -1, 0, 250, 10_000):
        folder = tmp_path / str(more)
        try:
            ingested(folder, source, store=store, budget={"disk": taken + more}, skip_bad=skip_bad)
        except DiskError:
            assert list(folder.iterdir()) == []
        assert run_bytes(folder) <= taken + more
        outcomes.append(run_bytes(folder) > 0)
    assert (outcomes[0], outcomes[-1]) == (False, True)
    if codec == "none" and not skip_bad:
        assert outcomes[2:] == [False, outcomes[3], True, True], "known but for the digits of checksums and of means"
