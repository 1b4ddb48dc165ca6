"""The scale of an encoding, from a sample of activations, and what the encoding does to another.

The sample comes in batches, and more than once where the scale takes more than one look: nothing of it is held.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cascade.quantiser import Quantiser

Batches = Callable[[], Iterable[Tensor]]
"""Gives the same batches of activations, (N, C, H, W), at every call."""

CANDIDATES = 48
"""Scales tried for "uint4", in equal ratios from the largest activation's down to a thirty-second of it."""
SMALLEST = 1 / 32
PART = 8
"""Samples that are looked at together: their squares in float64 take eight times the memory of a bfloat16 x."""


def calibrate(quantiser: Quantiser, sample: Batches) -> None:
    """Set the scale of each channel from a sample; the float encodings have none, and the sample is not looked at.

    "uint8" maps the largest activation to 255. With the 16 levels of "uint4" the range is not worth its resolution:
    its scale is the one of least squared error among CANDIDATES. A channel that was never active gets the scale of
    the most active one, so that a rare activation of it survives.
    """
    if quantiser.levels is None:
        return
    channels = len(quantiser.scale)
    largest = torch.zeros(channels, device=quantiser.scale.device)
    for x in _parts(sample()):
        largest = torch.maximum(largest, x.amax((0, 2, 3)))
    largest = torch.where(largest <= 0, largest.max(), largest)
    smallest = torch.finfo(torch.float32).tiny * quantiser.levels / SMALLEST  # no scale may be subnormal
    full_range = largest.clamp(min=smallest) / quantiser.levels
    quantiser.scale.copy_(full_range)
    if quantiser.encoding == "uint4":
        quantiser.scale.copy_(_least_squares(quantiser, full_range, sample))


def _least_squares(quantiser: Quantiser, full_range: Tensor, sample: Batches) -> Tensor:
    """The candidate scale of least squared error, for each channel."""
    shares = torch.logspace(0, 1, CANDIDATES, base=SMALLEST).to(full_range)
    scales = full_range * shares[:, None]
    errors = torch.zeros_like(scales, dtype=torch.float64)
    for x in _parts(sample()):
        for candidate, scale in enumerate(scales):
            quantiser.scale.copy_(scale)
            errors[candidate] += (quantiser(x) - x).square().sum((0, 2, 3), dtype=torch.float64)
    best = errors.argmin(0, keepdim=True)  # the largest of equals: a silent channel keeps its range
    return scales.gather(0, best)[0]


@dataclass(frozen=True)
class Fidelity:
    """What an encoding does to activations."""

    signal_to_noise_db: float | None
    """10 log10 of the sum of squares over the sum of squared errors; None where there is no error, or no signal."""
    saturated_share: float
    """Share of the numbers whose activation lies beyond what the encoding can say, 0..1."""


def fidelity(quantiser: Quantiser, sample: Iterable[Tensor]) -> Fidelity:
    """Measured over a sample of activations, (N, C, H, W), best another one than was calibrated on."""
    signal, noise, saturated, count = 0.0, 0.0, 0, 0
    for x in _parts(sample):
        signal += x.square().sum(dtype=torch.float64).item()
        noise += (quantiser(x) - x).square().sum(dtype=torch.float64).item()
        saturated += int((x > _largest(quantiser)).sum())
        count += x.numel()
    ratio = 10 * torch.tensor(signal / noise).log10().item() if signal and noise else None
    return Fidelity(ratio, saturated / count if count else 0.0)


def _parts(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The samples of batches, PART at a time, in float32."""
    for x in batches:
        yield from (part.float() for part in torch.split(x, PART))


def _largest(quantiser: Quantiser) -> Tensor:
    """The activation of each channel that rounds to the largest stored number and no further, (C, 1, 1)."""
    if quantiser.levels:
        return (quantiser.scale * (quantiser.levels + 0.5)).view(-1, 1, 1)
    limit = torch.inf if quantiser.encoding == "float32" else 65504.0
    return torch.full_like(quantiser.scale, limit).view(-1, 1, 1)
