"""Convolutions with weights so large that no second copy of them is made."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLICE = 2**24
"""Weights that are converted, and whose gradient is made, at a time."""
WIDE = 2 * SLICE
"""Weights from which on that is done."""


class Convolution(nn.Conv2d):
    """`nn.Conv2d`, some output channels at a time where it has WIDE weights or more.

    Maps (N, in_channels, H, W) to (N, out_channels, H', W'), as `nn.Conv2d` does, whose arguments it takes. Raises
    ValueError for those that slices are not made for: dilation, groups, padding in words or of other than zeros.

    A weight of bytes B takes another B/2 under autocast, B/2 for the gradient of that copy, and B for its own gradient.
    A wide one is converted a slice at a time instead, and so is its gradient, which goes straight into `weight.grad`,
    that is added to as autograd adds to it. So hooks of the weight do not see it, nor does `torch.autograd.grad`.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        allowed = {"dilation": (1, 1), "groups": 1, "padding_mode": "zeros"}
        for name, value in allowed.items():
            if (own := getattr(self, name)) != value:
                raise ValueError(f"{name} = {own!r}: expected {value!r}; next: take nn.Conv2d")
        if isinstance(self.padding, str):
            raise ValueError(f"padding = {self.padding!r}: expected numbers; next: take nn.Conv2d")

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.numel() < WIDE:
            return super().forward(x)
        if torch.is_grad_enabled() and self.weight.requires_grad:
            y: Tensor = _Sliced.apply(x, self.weight, self.bias, self.stride, self.padding)
            return y
        return _sliced(x, self.weight, self.bias, self.stride, self.padding)


def _sliced(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int] | str
) -> Tensor:
    """The convolution; under autocast its output, and each slice of its weight, in the type of that."""
    y = None
    for rows in _slices(weight):
        part = F.conv2d(x, weight[rows], None if bias is None else bias[rows], stride, padding)
        if y is None:
            size = (len(part), len(weight), *part.shape[2:])
            y = torch.empty(size, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
        y[:, rows] = part
    assert y is not None, "a convolution has weights"
    return y


class _Sliced(torch.autograd.Function):
    """The same with a backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
    ) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        ctx.save_for_backward(x)
        ctx.weight, ctx.stride, ctx.padding = weight, stride, padding  # a parameter: never one that is computed again
        return _sliced(x, weight, bias, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
        (x,), weight = ctx.saved_tensors, ctx.weight
        of_x = torch.zeros_like(x, dtype=torch.float32) if ctx.needs_input_grad[0] else None
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        for rows in _slices(weight):
            own = [of_x is not None, True, False]
            w, part = weight[rows].to(x.dtype), g[:, rows].contiguous(memory_format=torch.channels_last)
            step = torch.ops.aten.convolution_backward(
                part, x, w, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, own
            )
            weight.grad[rows] += step[1]
            if of_x is not None:
                of_x += step[0]
        of_bias = g.sum((0, 2, 3), dtype=torch.float32) if ctx.needs_input_grad[2] else None
        return None if of_x is None else of_x.to(x.dtype), None, of_bias, None, None


def _slices(weight: Tensor) -> Iterator[slice]:
    """Output channels of a weight, SLICE numbers or the least there is at a time."""
    size = max(SLICE // weight[0].numel(), 1)
    for first in range(0, len(weight), size):
        yield slice(first, first + size)
