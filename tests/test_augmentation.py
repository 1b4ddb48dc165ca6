"""Crops and flips: drawn by sample id alone, cut as plain slicing would."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.augmentation import (
    Holes,
    Windows,
    canvas_draws,
    canvases,
    centre_of,
    centre_windows,
    cut,
    cut_out,
    fresh_draws,
    view_draws,
)
from pipeline.config import Augment

CROP = Augment(crop=6, padding=2, flip=True)
IDS = np.arange(2000)


def fresh(augment: Augment = CROP, side: int = 8, ids: NDArray[np.int64] = IDS, **changed: int) -> Windows:
    return fresh_draws(augment, side, ids, **({"seed": 0, "stage": 0, "epoch": 0} | changed))


def on_canvas(ids: NDArray[np.int64] = IDS, **changed: int) -> Windows:
    """Windows of 6 pixels on canvases of 10."""
    return canvas_draws(10, 6, ids, **({"seed": 0, "stage": 1, "epoch": 0} | changed))


def columns(windows: Windows) -> NDArray[np.int64]:
    """(top, left, flip) of each sample."""
    return np.stack([windows.top, windows.left, windows.flip], 1)


def images(count: int, channels: int, side: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(0).integers(1, 256, (count, channels, side, side)).astype(dtype)


def plain_cut(x: NDArray[Any], windows: Windows) -> NDArray[Any]:
    """Slice by slice: pad with zeros, crop, mirror."""
    crop, padding = windows.side, windows.padding
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out = []
    for image, top, left, flip in zip(padded, windows.top, windows.left, windows.flip, strict=True):
        window = image[:, top : top + crop, left : left + crop]
        out.append(window[:, :, ::-1] if flip else window)
    return np.stack(out)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("side", "crop", "padding"), [(8, 6, 2), (8, 8, 0), (8, 8, 3), (9, 4, 0), (5, 1, 0), (7, 8, 1)]
)
def test_cut_is_slicing_of_the_padded_image_mirrored_where_flipped(
    channels: int, side: int, crop: int, padding: int
) -> None:
    x = images(200, channels, side)
    windows = fresh(Augment(crop=crop, padding=padding, flip=True), side, IDS[:200])
    assert (windows.side, windows.padding) == (crop, padding)
    got = cut(torch.from_numpy(x), windows)
    assert got.shape == (200, channels, crop, crop)
    assert got.dtype == torch.uint8
    np.testing.assert_array_equal(got.numpy(), plain_cut(x, windows))


def test_cut_of_floats_keeps_them() -> None:
    x = images(20, 2, 8, np.float32) / 7
    windows = fresh(ids=IDS[:20])
    np.testing.assert_array_equal(cut(torch.from_numpy(x), windows).numpy(), plain_cut(x, windows))


def test_what_is_cut_lies_in_channels_last_memory() -> None:
    x = torch.from_numpy(images(4, 3, 8))
    assert cut(x, fresh(ids=IDS[:4])).is_contiguous(memory_format=torch.channels_last)


def test_cut_leaves_the_images_as_they_were() -> None:
    x = torch.from_numpy(images(4, 3, 8))
    before = x.clone()
    cut(x, fresh(ids=IDS[:4])).zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("side", "crop", "padding", "offset"), [(8, 6, 2, 3), (8, 8, 4, 4), (256, 224, 0, 16), (9, 6, 0, 1)]
)
def test_centre_windows_are_the_centre_of_the_image_without_its_padding(
    side: int, crop: int, padding: int, offset: int
) -> None:
    windows = centre_windows(Augment(crop=crop, padding=padding, flip=True), side, 3)
    assert columns(windows).tolist() == [[offset, offset, 0]] * 3
    x = images(3, 1, side)
    start = (side - crop) // 2
    np.testing.assert_array_equal(
        cut(torch.from_numpy(x), windows).numpy(),
        x[:, :, start : start + crop, start : start + crop],
    )


@pytest.mark.parametrize("kind", ["fresh", "view", "canvas"])
def test_draws_of_a_sample_are_the_same_in_whatever_batch_it_is(kind: str) -> None:
    views = IDS % 3

    def drawn(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if kind == "fresh":
            return columns(fresh(ids=IDS[rows]))
        if kind == "canvas":
            return columns(on_canvas(IDS[rows]))
        return columns(view_draws(CROP, 8, IDS[rows], views[rows], seed=0))

    everything = drawn(np.arange(2000))
    shuffled = np.random.default_rng(0).permutation(2000)
    np.testing.assert_array_equal(drawn(shuffled), everything[shuffled])
    for row in (0, 7, 1999):
        np.testing.assert_array_equal(drawn(np.array([row])), everything[row : row + 1])


def test_fresh_draws_differ_by_seed_stage_and_epoch() -> None:
    drawn = [columns(windows) for windows in (fresh(), fresh(seed=1), fresh(stage=1), fresh(epoch=1))]
    assert len({array.tobytes() for array in drawn}) == 4


def test_stored_views_differ_by_seed_and_view_and_know_no_epoch() -> None:
    drawn = [columns(view_draws(CROP, 8, IDS, np.full(2000, v), seed=s)) for v, s in ((0, 0), (1, 0), (2, 0), (0, 1))]
    assert len({array.tobytes() for array in drawn}) == 4
    assert columns(fresh()).tobytes() not in {array.tobytes() for array in drawn}


def test_half_of_the_images_are_flipped_and_none_without_flip() -> None:
    assert 900 < fresh().flip.sum() < 1100
    assert fresh().flip.dtype == bool
    assert not fresh(Augment(crop=6, padding=2, flip=False)).flip.any()


def test_flip_alone_moves_nothing_else() -> None:
    one, other = fresh(Augment(crop=6, padding=2, flip=True)), fresh(Augment(crop=6, padding=2))
    np.testing.assert_array_equal(columns(one)[:, :2], columns(other)[:, :2])


def test_every_position_is_reached_about_equally_often_and_none_beyond() -> None:
    windows = fresh(ids=np.arange(20_000))
    positions = 8 + 2 * 2 - 6 + 1
    counts = np.bincount(windows.top * positions + windows.left, minlength=positions**2)
    assert len(counts) == positions**2
    assert windows.top.min() == windows.left.min() == 0
    assert windows.top.max() == windows.left.max() == positions - 1
    expected = 20_000 / positions**2
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize("augment", [Augment(crop=8, flip=True), Augment(flip=True)])
def test_whole_image_has_one_position(augment: Augment) -> None:
    windows = fresh(augment)
    assert not windows.top.any()
    assert not windows.left.any()


def test_a_canvas_is_the_whole_padded_image_and_its_mirror_image_in_view_1() -> None:
    x = images(4, 2, 7)
    windows = canvases(Augment(crop=6, padding=2, flip=True), 7, np.array([0, 1, 1, 0]))
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    expected = np.stack([padded[0], padded[1, :, :, ::-1], padded[2, :, :, ::-1], padded[3]])
    np.testing.assert_array_equal(cut(torch.from_numpy(x), windows).numpy(), expected)


@pytest.mark.parametrize("flip", [False, True])
def test_canvases_of_later_phases_are_shifted_by_a_pixel_with_black_behind_and_mirrored_after_that(flip: bool) -> None:
    x = images(8, 2, 7)
    augment = Augment(crop=6, padding=2, flip=flip, policy="canvas", phases=4)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 3), (2, 3)))
    shifted = [padded[..., down : down + 11, right : right + 11] for down, right in ((0, 0), (1, 1), (0, 1), (1, 0))]
    views = [canvas for each in shifted for canvas in ([each, each[..., ::-1]] if flip else [each])]
    assert len(views) == augment.stored_views
    windows = canvases(augment, 7, np.arange(augment.stored_views))
    expected = np.stack([canvas[sample] for sample, canvas in enumerate(views)])
    np.testing.assert_array_equal(cut(torch.from_numpy(x[: len(views)]), windows).numpy(), expected)


def test_windows_on_a_canvas_reach_every_position_about_equally_often_and_none_beyond() -> None:
    windows = on_canvas(np.arange(20_000))
    counts = np.bincount(windows.top * 5 + windows.left, minlength=25)
    assert len(counts) == 25
    assert np.abs(counts - 800).max() < 5 * np.sqrt(800)
    assert windows.top.max() == windows.left.max() == 4
    assert not windows.flip.any(), "the mirror image is a canvas of its own"
    assert (windows.side, windows.padding) == (6, 0)


@pytest.mark.parametrize(("field", "side", "offset"), [(10, 6, 2), (5, 2, 1), (4, 1, 1), (6, 6, 0)])
def test_centre_of_features_lies_towards_the_top_left_where_it_is_between_pixels(
    field: int, side: int, offset: int
) -> None:
    windows = centre_of(field, side, 3)
    assert columns(windows).tolist() == [[offset, offset, 0]] * 3
    x = images(3, 2, field, np.float32)
    stop = offset + side
    np.testing.assert_array_equal(cut(torch.from_numpy(x), windows).numpy(), x[:, :, offset:stop, offset:stop])


def test_windows_on_a_canvas_of_their_own_size_do_not_move() -> None:
    windows = canvas_draws(6, 6, IDS, seed=0, stage=1, epoch=0)
    assert not columns(windows).any()


def test_windows_on_canvases_differ_by_seed_stage_and_epoch_and_from_draws_for_images() -> None:
    drawn = [on_canvas(), on_canvas(seed=1), on_canvas(stage=2), on_canvas(epoch=1)]
    drawn.append(fresh(Augment(crop=6, padding=1), 8, stage=1))
    assert len({columns(windows).tobytes() for windows in drawn}) == 5
    np.testing.assert_array_equal(columns(on_canvas()), columns(on_canvas()))


def test_a_hole_is_a_square_of_zeros_around_its_centre_as_far_as_the_window_reaches() -> None:
    x = torch.ones(3, 2, 6, 6)
    holes = Holes(3, np.array([2, 0, 5]), np.array([3, 0, 1]))
    found = cut_out(x, holes)
    expected = torch.ones(3, 6, 6)
    expected[0, 1:4, 2:5] = expected[1, :2, :2] = expected[2, 4:, :3] = 0
    assert torch.equal(found, expected[:, None].expand(3, 2, 6, 6))
    assert cut_out(x, None) is x


def test_holes_are_drawn_anew_for_each_epoch_and_lie_anywhere() -> None:
    augment, ids = Augment(cutout=4), np.arange(500)
    one, again, other = (fresh_draws(augment, 8, ids, seed=0, stage=0, epoch=epoch).holes for epoch in (0, 0, 1))
    assert one is not None
    assert again is not None
    assert other is not None
    assert (one.row == again.row).all()
    assert (one.row != other.row).any()
    assert set(one.row.tolist()) == set(one.column.tolist()) == set(range(8))
    plain = fresh_draws(Augment(), 8, ids, seed=0, stage=0, epoch=0)
    assert plain.holes is None
