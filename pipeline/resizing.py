"""Boxes of drawn sizes, resized to one window: RandomResizedCrop (Szegedy et al., 2015), batched, on the device.

A box is drawn as torchvision draws it, and resized as `torch.nn.functional.interpolate` does it bilinearly with
antialias: a pixel is the mean of those around it, by a triangle as wide as the box is reduced, rows first. A sample's
numbers are sums in one order, whatever batch it is in.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.draws import unit
from pipeline.transfer import to_device

TRIES = 10
"""Of a box that fits in the image, after which it is the largest of an allowed shape; as in torchvision."""


@dataclass(frozen=True)
class Sizes:
    """Of each sample's box, in pixels, before it is resized."""

    height: NDArray[np.int64]
    width: NDArray[np.int64]


Tap = tuple[Tensor, Tensor]
"""A pixel that each one of a resized side is made of: its place, and its weight, (N, side)."""


def drawn_sizes(
    scale: Sequence[float], ratio: Sequence[float], side: int, numbers: Callable[[int], NDArray[np.uint64]]
) -> Sizes:
    """Boxes of a share of a square image's area within `scale` and a width by height within `ratio`, evenly in its
    logarithm; `numbers` gives the draws of as many axes as there are, 2 * TRIES."""
    least, most = np.log(ratio)
    shape = min(max(1.0, ratio[0]), ratio[1])
    width, height = (min(max(round(side * share), 1), side) for share in (shape, 1 / shape))
    sizes = Sizes(np.asarray(height), np.asarray(width))
    for attempt in reversed(range(TRIES)):
        share, position = (unit(numbers(2 * attempt + axis)) for axis in range(2))
        area = side**2 * (scale[0] + (scale[1] - scale[0]) * share)
        shapes = np.exp(least + (most - least) * position)
        wide, tall = (np.rint(np.sqrt(size)).astype(np.int64) for size in (area * shapes, area / shapes))
        fits = (np.minimum(wide, tall) > 0) & (np.maximum(wide, tall) <= side)
        sizes = Sizes(np.where(fits, tall, sizes.height), np.where(fits, wide, sizes.width))
    return sizes


def taps(start: NDArray[np.int64], length: NDArray[np.int64], steps: Tensor, *, field: int) -> list[Tap]:
    """Of the pixels, `steps`, (N or 1, side), of what `length` pixels from `start` on in a field are resized to.

    As many as any length within the field takes, so that none depends on which samples are together.
    """
    side = steps.shape[1]
    begin, size = (to_device(array, steps.device)[:, None] for array in (start, length))
    reduction = size / side
    reach = reduction.clamp(min=1)
    centre = (steps + 0.5) * reduction
    first = (centre - reach + 0.5).floor()
    places = [first + tap for tap in range(math.ceil(2 * max(field / side, 1)))]
    weights = [(1 - ((place + 0.5 - centre) / reach).abs()).clamp(min=0) for place in places]
    weights = [weight * ((place >= 0) & (place < size)) for place, weight in zip(places, weights, strict=True)]
    total = sum(weights[1:], weights[0])
    inside = [begin + place.long().clamp(min=0).minimum(size - 1) for place in places]
    return [(place, weight / total) for place, weight in zip(inside, weights, strict=True)]


def resized(x: Tensor, rows: Sequence[Tap], columns: Sequence[Tap]) -> Tensor:
    """Windows of images x, (N, C, H, W), in float32 and channels-last memory, (N, C, side, side)."""
    sample = torch.arange(len(x), device=x.device)[:, None]
    step = torch.arange(rows[0][0].shape[1], device=x.device)[:, None]
    reduced = _sum((x[sample, :, place], weight[:, :, None, None]) for place, weight in rows)  # (N, side, C, W)
    window = _sum(
        (reduced[sample[:, :, None], step, :, place[:, None]], weight[:, None, :, None]) for place, weight in columns
    )
    return window.permute(0, 3, 1, 2)


def _sum(parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Of pixels, which are written over, each times its weight."""
    total: Tensor | None = None
    for pixels, weight in parts:
        part = pixels.float().mul_(weight)
        total = part if total is None else total.add_(part)
    assert total is not None, "a pixel is made of two at least"
    return total
