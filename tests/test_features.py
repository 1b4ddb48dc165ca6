"""Averages of x_j are of the x_j that stages are tested on, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.device import choose_device, place
from pipeline.errors import CorruptDataError
from pipeline.experiments.features import Depths, decoded
from pipeline.experiments.pool import open_pool
from pipeline.feed import Feed
from pipeline.networks import load_block
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.runs import run_stages
from tests.images import image_file, pixels
from tests.runs import digits_run

CPU = choose_device("cpu")
SHORT = ("network.width=4", "head.width=4", "train.epochs=1")


def trained(folder: Path, *settings: str) -> RunFolder:
    run = digits_run(folder, *SHORT, "cache.keep=none", *settings)
    run_stages(run, None, None, "cpu", Reporter())
    return run


def averages(run: RunFolder, j: int) -> Tensor:
    """Of the test split's x_j, as stage j sees it; of x_J from block J-1."""
    stages = len(run.stages)
    block = load_block(run, j - 1) if j == stages else None
    if block is not None:
        place(block, CPU)
    feed = Feed(run, min(j, stages - 1), CPU, anchor=0)
    return torch.cat([x.float().mean((2, 3)) for x, _ in feed.sequential("test", block)])


@pytest.mark.parametrize(
    "settings",
    [
        ("store.encoding=uint4",),
        ("augment.policy=canvas", "augment.padding=2"),
        ("augment.policy=canvas", "augment.padding=2", "augment.cut_at=1"),
        ("augment.policy=recompute", "augment.crop=6", "network.precision=bfloat16"),
    ],
)
def test_averages_are_those_of_what_stages_are_tested_on(tmp_path: Path, settings: tuple[str, ...]) -> None:
    run = trained(tmp_path / "run", *settings)
    pool = open_pool("digits:")
    rows = np.flatnonzero(np.arange(len(pool.labels)) >= len(pool.labels) - run.info.samples["test"])
    network = Depths(run, [1, 2, 3], CPU)
    found = [network(images) for images in decoded(run, pool, rows)]
    assert [len(one[1]) for one in found][:-1] == [64] * (len(found) - 1)
    for j in (1, 2, 3):
        assert torch.equal(torch.cat([one[j] for one in found]), averages(run, j)), f"x_{j}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained(tmp_path_factory.mktemp("features") / "run")


def test_depths_that_are_not_asked_for_are_not_computed_and_change_nothing(whole: RunFolder) -> None:
    images = pixels(5, 1, 8, 8)
    alone, all_of_them = Depths(whole, [1], CPU)(images), Depths(whole, [0, 1, 3], CPU)(images)
    assert (list(alone), list(all_of_them)) == ([1], [0, 1, 3])
    assert torch.equal(alone[1], all_of_them[1])
    assert all_of_them[1].shape == (5, 4)


def test_colour_of_any_size_becomes_what_the_network_takes(whole: RunFolder, tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        image_file(tmp_path / "images" / name / "a.png", pixels(20, 11, 3))
    pool = open_pool(f"folder:{tmp_path / 'images'}")
    (images,) = decoded(whole, pool, np.arange(2))
    assert images.shape == (2, 1, 8, 8)


def test_a_damaged_image_is_named(whole: RunFolder, tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        image_file(tmp_path / "images" / name / "a.png", pixels(8, 8))
    (tmp_path / "images" / "bee" / "a.png").write_bytes(b"nothing")
    pool = open_pool(f"folder:{tmp_path / 'images'}")
    with pytest.raises(CorruptDataError, match=r"bee/a\.png: not recognised as .*\nnext: mend it"):
        list(decoded(whole, pool, np.arange(2)))
