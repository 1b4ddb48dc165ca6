"""Random crop, resizing, flip and cutout of stored images or features, batched, on the device.

Which window a sample gets is drawn outside, as a pure function of its sample id (`fresh_draws`, `view_draws`,
`canvas_draws`), so that a batch can be made again, in any company and on any device.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import Augment
from pipeline.draws import Purpose, below, draw
from pipeline.resizing import Sizes, drawn_sizes, resized, taps
from pipeline.transfer import to_device

PHASES = np.array([(0, 0), (1, 1), (0, 1), (1, 0)])
"""Down and to the right, in pixels of the image: (1, 1) second, since it moves both axes to odd pixels at once."""


@dataclass(frozen=True)
class Windows:
    """The window of each sample: offsets into its padded field, in pixels, and whether it is mirrored."""

    side: int
    """Of every window."""
    padding: int
    """Zeros on each side of the field before it is cut; zero is black."""
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    flip: NDArray[np.bool_]
    holes: "Holes | None" = None
    sizes: Sizes | None = None
    """Of what is resized to the windows; None where they are cut as they are."""


@dataclass(frozen=True)
class Holes:
    """The square of each window that is cut out (DeVries and Taylor, 2017), by its centre, in pixels."""

    side: int
    row: NDArray[np.int64]
    column: NDArray[np.int64]


def fresh_draws(
    augment: Augment, image_side: int, sample_ids: NDArray[np.int64], *, seed: int, stage: int, epoch: int
) -> Windows:
    """New windows for an epoch of a stage that reads images."""
    return _drawn(augment, image_side, seed, Purpose.FRESH_AUGMENTATION, stage, epoch, sample_ids)


def view_draws(
    augment: Augment, image_side: int, sample_ids: NDArray[np.int64], views: NDArray[np.int64], *, seed: int
) -> Windows:
    """The windows of stored views: the same whenever and wherever view v of a sample is rendered."""
    return _drawn(augment, image_side, seed, Purpose.STORED_VIEW, views, sample_ids)


def centre_windows(augment: Augment, image_side: int, count: int) -> Windows:
    """The centre of the images, not mirrored: what is tested on."""
    side = augment.crop or image_side
    centre = np.full(count, augment.padding + (image_side - side) // 2)
    return Windows(side, augment.padding, centre, centre, np.zeros(count, bool))


def centre_of(field_side: int, side: int, count: int) -> Windows:
    """The centre of fields of features, towards their top left corner where it lies between pixels."""
    centre = np.full(count, (field_side - side) // 2)
    return Windows(side, 0, centre, centre, np.zeros(count, bool))


def canvases(augment: Augment, image_side: int, views: NDArray[np.int64]) -> Windows:
    """The whole of each padded image, shifted by the view's phase and then mirrored in every second view.

    Where images are not flipped a view is a phase. What a shift brings in is black like the padding.
    """
    phase, mirrored = np.divmod(views, 1 + augment.flip)
    down, right = PHASES[phase].T
    border = augment.padding + 1  # a shift reaches a pixel beyond the padding
    return Windows(image_side + 2 * augment.padding, border, 1 + down, 1 + right, mirrored == 1)


def canvas_draws(
    canvas_side: int, side: int, sample_ids: NDArray[np.int64], *, seed: int, stage: int, epoch: int
) -> Windows:
    """New windows of `side` for an epoch of a stage that reads features of canvases.

    Whole pixels of the features: 2^d pixels of the image after d down-samplings.
    """
    top, left = (draw(seed, Purpose.CANVAS_WINDOW, stage, epoch, sample_ids, axis) for axis in range(2))
    positions = canvas_side - side + 1
    return Windows(side, 0, below(positions, top), below(positions, left), np.zeros(len(sample_ids), bool))


def _drawn(
    augment: Augment, image_side: int, seed: int, purpose: Purpose, *indices: int | NDArray[np.int64]
) -> Windows:
    side = augment.crop or image_side
    field = image_side + 2 * augment.padding

    def numbers(axis: int) -> NDArray[np.uint64]:
        return draw(seed, purpose, *indices, axis)

    holes, sizes = None, None
    if augment.cutout:
        holes = Holes(augment.cutout, below(side, numbers(3)), below(side, numbers(4)))
    if augment.scale:
        sizes = drawn_sizes(augment.scale, augment.ratio, field, lambda axis: numbers(5 + axis))
    height, width = (sizes.height, sizes.width) if sizes else (side, side)
    top, left = below(field - height + 1, numbers(0)), below(field - width + 1, numbers(1))
    mirrored = below(2, numbers(2)).astype(bool) & augment.flip
    return Windows(side, augment.padding, top, left, mirrored, holes, sizes)


def cut(x: Tensor, windows: Windows) -> Tensor:
    """The windows of images or features x, (N, C, H, W); (N, C, side, side), in channels-last memory.

    Those that are resized are of float32, in the range of x.
    """
    device, side, sizes = x.device, windows.side, windows.sizes
    padded = F.pad(x, [windows.padding] * 4) if windows.padding else x
    down = torch.arange(side, device=device)
    across = torch.where(to_device(windows.flip, device)[:, None], side - 1 - down, down)
    if sizes is not None:
        field = padded.shape[-1]
        of_rows = taps(windows.top, sizes.height, down[None], field=field)
        return resized(padded, of_rows, taps(windows.left, sizes.width, across, field=field))
    rows = to_device(windows.top, device)[:, None] + down
    columns = to_device(windows.left, device)[:, None] + across
    sample = torch.arange(len(x), device=device)[:, None, None]
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(x: Tensor, holes: Holes | None) -> Tensor:
    """The windows x, (N, C, side, side), with zeros in their holes; a hole may reach beyond the window's border.

    Zero is the mean of images that are normalised.
    """
    if holes is None:
        return x
    first = holes.side // 2
    pixels = torch.arange(x.shape[-1], device=x.device)

    def within(centre: NDArray[np.int64]) -> Tensor:
        start = to_device(centre, x.device)[:, None] - first
        return (pixels >= start) & (pixels < start + holes.side)

    hole = within(holes.row)[:, None, :, None] & within(holes.column)[:, None, None, :]
    return x.masked_fill(hole, 0)
