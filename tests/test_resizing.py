"""Boxes of drawn sizes, resized: RandomResizedCrop as torchvision has it, with draws that are counted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from pipeline.augmentation import Windows, centre_windows, cut, fresh_draws, view_draws
from pipeline.config import Augment
from pipeline.draws import Purpose, draw
from pipeline.feed import Feed
from pipeline.progress import Reporter
from pipeline.resizing import Sizes, drawn_sizes
from pipeline.training import train_stage
from tests.runs import tiny_run

CPU = torch.device("cpu")
IDS = np.arange(40)
USUAL = Augment(crop=12, flip=True, scale=[0.08, 1.0])
ROUNDING = 1e-3
"""Of sums of a few pixels of 0..255 in float32, in another order."""


def sizes(count: int = 20_000, side: int = 256, *, scale: tuple[float, float], ratio: tuple[float, float]) -> Sizes:
    return drawn_sizes(scale, ratio, side, lambda axis: draw(0, Purpose.VERIFY, axis, np.arange(count)))


def images(side: int, count: int = len(IDS)) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, side, side), np.uint8))


def boxes(windows: Windows) -> NDArray[np.int64]:
    """(top, left, height, width, flip) of each sample."""
    assert windows.sizes is not None
    return np.stack([windows.top, windows.left, windows.sizes.height, windows.sizes.width, windows.flip], 1)


def resized_crops(x: Tensor, windows: Windows, *, side: int) -> Tensor:
    """Image by image, by torchvision."""
    out = []
    for image, (top, left, height, width, flip) in zip(x, boxes(windows).tolist(), strict=True):
        window = functional.resized_crop(image, top, left, height, width, [side, side], antialias=True)
        out.append(functional.horizontal_flip(window) if flip else window)
    return torch.stack(out)


@pytest.mark.parametrize(("field", "side"), [(16, 12), (40, 12), (9, 12), (13, 1)])
def test_pixels_are_torchvisions(field: int, side: int) -> None:
    x = images(field)
    windows = fresh_draws(Augment(crop=side, flip=True, scale=[0.08, 1.0]), field, IDS, seed=0, stage=0, epoch=0)
    got = cut(x, windows)
    assert got.dtype == torch.float32
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert (got - resized_crops(x.float(), windows, side=side)).abs().max() < ROUNDING
    assert (got - resized_crops(x, windows, side=side)).abs().max() < 1.1, "which rounds twice, and weights too"


def test_a_sample_has_the_same_pixels_and_box_in_whatever_batch_it_is() -> None:
    x = images(30)
    together = cut(x, fresh_draws(USUAL, 30, IDS, seed=0, stage=0, epoch=0))
    for rows in ([7], [39, 7, 0], np.random.default_rng(0).permutation(40)):
        alone = cut(x[rows], fresh_draws(USUAL, 30, IDS[rows], seed=0, stage=0, epoch=0))
        assert torch.equal(alone, together[rows])


def test_boxes_differ_by_seed_stage_and_epoch_and_those_of_stored_views_by_view_alone() -> None:
    asked = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    fresh = [fresh_draws(USUAL, 30, IDS, seed=seed, stage=stage, epoch=epoch) for seed, stage, epoch in asked]
    views = [view_draws(USUAL, 30, IDS, np.full(40, view), seed=0) for view in (0, 1)]
    assert len({boxes(windows)[:, 2:4].tobytes() for windows in [*fresh, *views]}) == 6
    again = view_draws(USUAL, 30, IDS, np.zeros(40, np.int64), seed=0)
    np.testing.assert_array_equal(boxes(again), boxes(views[0]))


@pytest.mark.parametrize("policy", ["views", "recompute"])
def test_a_stage_sees_the_same_from_the_images_and_from_what_is_stored(tmp_path: Path, policy: str) -> None:
    resized = ("augment.scale=[0.2, 1.0]", "augment.padding=0", "store.encoding=float32")
    run = tiny_run(tmp_path / "run", f"augment.policy={policy}", *resized)
    train_stage(run, 0, CPU, Reporter())
    anchors = (0, run.config.augment.last_anchor(1))
    assert anchors == ((0, 1) if policy == "views" else (0, 0))
    epochs = [[x for x, _ in Feed(run, 1, CPU, anchor=i).training(e)] for i, e in ((0, 0), (anchors[1], 0), (0, 1))]
    one, same, other = (torch.cat(epoch) for epoch in epochs)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_what_is_tested_on_is_the_centre_as_it_is() -> None:
    assert centre_windows(USUAL, 30, 3).sizes is None


def test_flips_are_those_of_windows_that_are_not_resized() -> None:
    plain, other = (
        fresh_draws(augment, 30, IDS, seed=0, stage=0, epoch=0) for augment in (Augment(crop=12, flip=True), USUAL)
    )
    np.testing.assert_array_equal(plain.flip, other.flip)
    assert plain.sizes is None


def test_boxes_lie_in_the_image_and_reach_all_its_borders() -> None:
    windows = fresh_draws(USUAL, 30, np.arange(5000), seed=0, stage=0, epoch=0)
    top, left, height, width, _ = boxes(windows).T
    assert top.min() == left.min() == 0
    assert height.min() > 0
    assert width.min() > 0
    assert (top + height).max() == (left + width).max() == 30


def test_areas_are_even_within_the_scale_and_shapes_in_their_logarithm_within_the_ratio() -> None:
    found = sizes(scale=(0.2, 0.6), ratio=(0.5, 2.0))  # 0.6 of twice the width fits nowhere
    area, shape = found.height * found.width / 256**2, np.log2(found.width / found.height)
    assert area.min() > 0.19
    assert area.max() < 0.61
    fits = area < 0.45
    for values, edges in ((area[fits], np.linspace(0.2, 0.45, 6)), (shape[fits], np.linspace(-1, 1, 6))):
        counts = np.histogram(values, edges)[0]
        assert np.abs(counts / counts.mean() - 1).max() < 0.06


def test_sizes_are_drawn_as_torchvision_draws_them() -> None:
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image, scale, ratio = torch.zeros(3, 256, 256), (0.08, 1.0), (3 / 4, 4 / 3)
    theirs = np.array([RandomResizedCrop.get_params(image, list(scale), list(ratio))[2:] for _ in range(4000)])
    ours = sizes(4000, scale=scale, ratio=ratio)
    for axis, own in enumerate((ours.height, ours.width)):
        deciles = [np.quantile(values, np.linspace(0.1, 0.9, 9)) for values in (theirs[:, axis], own)]
        assert np.abs(deciles[0] - deciles[1]).max() < 8, "of 256 pixels"


@pytest.mark.parametrize(
    ("scale", "ratio", "expected"),
    [((1.0, 1.0), (0.75, 1.3), (64, 64)), ((1.0, 1.0), (2.0, 3.0), (32, 64)), ((1.0, 1.0), (0.25, 0.5), (64, 32))],
)
def test_where_no_box_fits_it_is_the_largest_of_an_allowed_shape(
    scale: tuple[float, float], ratio: tuple[float, float], expected: tuple[int, int]
) -> None:
    found = sizes(50, 64, scale=scale, ratio=ratio)
    whole = (found.height == expected[0]) & (found.width == expected[1])
    assert whole.mean() > 0.9, "but where a shape is drawn that is square to the pixel"
