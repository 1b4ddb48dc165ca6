"""Random crop and flip of stored images, batched, on the device.

Which window an image gets is drawn outside, as a pure function of its sample id (`fresh_draws`, `view_draws`), so that
a batch can be made again, in any company and on any device.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import Augment
from pipeline.draws import Purpose, below, draw


@dataclass(frozen=True)
class Windows:
    """The window of each image: offsets into the padded canvas, in pixels, and whether it is mirrored."""

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    flip: NDArray[np.bool_]


def fresh_draws(
    augment: Augment, side: int, sample_ids: NDArray[np.int64], *, seed: int, stage: int, epoch: int
) -> Windows:
    """New windows for an epoch of a stage that reads images."""
    return _windows(augment, side, seed, Purpose.FRESH_AUGMENTATION, stage, epoch, sample_ids)


def view_draws(
    augment: Augment, side: int, sample_ids: NDArray[np.int64], views: NDArray[np.int64], *, seed: int
) -> Windows:
    """The windows of stored views: the same whenever and wherever view v of a sample is rendered."""
    return _windows(augment, side, seed, Purpose.STORED_VIEW, views, sample_ids)


def centre_windows(augment: Augment, side: int, count: int) -> Windows:
    """The centre of the canvas, not mirrored."""
    offset = augment.padding + (side - (augment.crop or side)) // 2
    centre = np.full(count, offset)
    return Windows(centre, centre, np.zeros(count, bool))


def _windows(augment: Augment, side: int, seed: int, purpose: Purpose, *indices: int | NDArray[np.int64]) -> Windows:
    positions = side + 2 * augment.padding - (augment.crop or side) + 1
    top, left, flip = (draw(seed, purpose, *indices, axis) for axis in range(3))
    mirrored = below(2, flip).astype(bool) & augment.flip
    return Windows(below(positions, top), below(positions, left), mirrored)


def cut(images: Tensor, windows: Windows, *, crop: int, padding: int) -> Tensor:
    """Windows of side `crop` of images (N, C, H, W) padded with black; (N, C, crop, crop), in channels-last memory."""
    device = images.device
    padded = F.pad(images, [padding] * 4)
    steps = torch.arange(crop, device=device)
    rows = torch.from_numpy(windows.top).to(device)[:, None] + steps
    flip = torch.from_numpy(windows.flip).to(device)[:, None]
    columns = torch.from_numpy(windows.left).to(device)[:, None] + torch.where(flip, crop - 1 - steps, steps)
    sample = torch.arange(len(images), device=device)[:, None, None]
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
