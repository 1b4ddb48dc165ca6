"""Encodings on the device: how a float tensor becomes the numbers that are stored, and comes back.

x_j *is* the decoded value, so a quantiser stands between any two blocks, stored or replayed. The reference
definition, in numpy, is `cache.encodings`; a test holds the two equal.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOAT16_MAX = 65504.0
LEVELS = {"uint8": 255, "uint4": 15}
"""Encoding -> largest stored number, of those that divide by a scale."""
ENCODINGS = ("float32", "float16", *LEVELS)
STORED_TYPES = {"float32": torch.float32, "float16": torch.float16}
"""Of the encodings whose numbers are not bytes."""
PARTS = 4
"""Of a batch, that are encoded and decoded one after the other: between is float32, its largest tensor otherwise."""


class Quantiser(nn.Module):
    """Encode and decode activations of `channels` channels.

    "float32" keeps them, "float16" rounds and saturates them at 65504. "uint8" and "uint4" divide each channel by
    its `scale`, round half to even and saturate at 0 and at 255 or 15, so an exact zero stays zero and whatever is
    negative becomes zero; "uint4" packs two neighbours along the width into a byte.
    """

    scale: Tensor

    def __init__(self, encoding: str, channels: int) -> None:
        super().__init__()
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding = {encoding!r}: expected one of {', '.join(ENCODINGS)}")
        self.encoding = encoding
        self.register_buffer("scale", torch.ones(channels, dtype=torch.float32))

    @property
    def levels(self) -> int | None:
        """Largest stored number; None for the float encodings, which have no scale."""
        return LEVELS.get(self.encoding)

    def encode(self, x: Tensor) -> Tensor:
        """Stored numbers of activations x, (N, C, H, W): the same shape, but for "uint4" (N, C, H, ceil(W / 2))."""
        numbers = torch.empty_like(x, dtype=STORED_TYPES.get(self.encoding, torch.uint8))
        _in_parts(self._round, x, numbers)
        if self.encoding == "uint4":
            even = F.pad(numbers, (0, numbers.shape[-1] % 2))
            return even[..., 0::2] | even[..., 1::2] << 4
        return numbers

    def unpack(self, stored: Tensor, width: int) -> Tensor:
        """Stored numbers one to an element, (N, C, H, width); a view of `stored` but for "uint4"."""
        if self.encoding != "uint4":
            return stored
        return torch.stack([stored & 15, stored >> 4], dim=-1).flatten(-2)[..., :width]

    def decode(self, numbers: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Activations, (N, C, H, W) in channels-last memory, of stored numbers that are unpacked.

        They are products in float32; another `dtype` is what these are rounded to.
        """
        x = torch.empty_like(numbers, dtype=dtype, memory_format=torch.channels_last)
        _in_parts(lambda part: self._scaled(part).to(dtype), numbers, x)  # rounded, then moved: half the bytes to move
        return x

    def forward(self, x: Tensor) -> Tensor:
        """What would be read of x if it were stored, in the type of x."""
        decoded = torch.empty_like(x, memory_format=torch.channels_last)
        _in_parts(lambda part: self._scaled(self._round(part)), x, decoded)
        return decoded

    def _scaled(self, numbers: Tensor) -> Tensor:
        """Activations in float32."""
        x = numbers.float()
        return x.mul_(self.scale.view(-1, 1, 1)) if self.levels else x  # bytes: x is a tensor of its own

    def _round(self, x: Tensor) -> Tensor:
        """Numbers as they are stored, one to an element."""
        full = x.float()
        if self.levels:
            scale = self.scale.view(-1, 1, 1)
            scaled = full / scale if full is x else full.div_(scale)  # a copy is no one else's
            return scaled.round_().clamp_(0, self.levels).to(torch.uint8)
        if self.encoding == "float16":
            return full.clamp(-FLOAT16_MAX, FLOAT16_MAX).half()
        return full


def _in_parts(work: Callable[[Tensor], Tensor], x: Tensor, result: Tensor) -> None:
    """result = work(x), some samples at a time."""
    for part, into in zip(x.chunk(PARTS), result.chunk(PARTS), strict=True):
        into.copy_(work(part))
