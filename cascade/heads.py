"""gamma_j: the auxiliary head, C_gamma x = L A ReLU(W_{k-2} .. ReLU(W_0 x)) (Eq. 2)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cascade.convolution import Convolution
from cascade.norm import GroupedBatchNorm
from cascade.similarity import SimilarityFeatures

QUADRANTS = 2  # A averages over 2 x 2 quadrants (Sec. 4)
HIDDEN_LAYER = 3  # modules: convolution, batch norm, ReLU
Average = Literal["adaptive", "floor"]


class Head(nn.Module):
    """The classifier of an auxiliary problem with k hidden layers, of which the block itself is the first.

    Maps (N, in_channels, H, W) to logits (N, classes): an average over `pool` x `pool` pixels, k - 1 times
    [3x3 convolution with padding 1, batch norm, ReLU] of `width` channels, an average to 2 x 2, a linear layer.
    k = 1 is the average and the linear layer alone.

    `pool = 1` is the paper's head, at the full resolution of the block; a larger one averages first, which
    the authors' later VGG-11 code does and which decides the memory of early stages. Where batch norm is used
    another one follows the 2 x 2 average, as in the released code, unless `pooled_norm` is false, as the paper's text
    may be read; all take the statistics of `bn_group` samples at a time, 0 of the whole batch. Without a word on `bias`
    convolutions have one where no batch norm follows. The average to 2 x 2 is "adaptive": at odd sides it drops no
    pixel (a `pool` does); the "floor" of half the side drops a row and a column there, as the released code's
    `avg_pool2d` does.

    With `similarity` it also has what a similarity loss compares, of what its convolutions are given.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        k: int,
        width: int,
        classes: int,
        batch_norm: bool = True,
        pool: int = 1,
        bn_group: int = 0,
        bias: bool | None = None,
        average: Average = "adaptive",
        pooled_norm: bool = True,
        similarity: bool = False,
    ) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"k = {k}: an auxiliary problem has at least one hidden layer, the block itself")
        self.pool = nn.AvgPool2d(pool) if pool > 1 else nn.Identity()
        channels = in_channels
        has_bias = not batch_norm if bias is None else bias
        layers: list[nn.Module] = []
        for _ in range(k - 1):
            layers.append(Convolution(channels, width, kernel_size=3, padding=1, bias=has_bias))
            layers.append(GroupedBatchNorm(width, bn_group) if batch_norm else nn.Identity())
            layers.append(nn.ReLU(inplace=True))
            channels = width
        self.hidden = nn.Sequential(*layers)
        self.average = FloorAverage() if average == "floor" else nn.AdaptiveAvgPool2d(QUADRANTS)
        self.norm = GroupedBatchNorm(channels, bn_group) if batch_norm and pooled_norm else nn.Identity()
        self.linear = nn.Linear(channels * QUADRANTS**2, classes)
        self.similarity = SimilarityFeatures(in_channels) if similarity else None

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.hidden(self.pool(x)))

    def classify(self, x: Tensor) -> Tensor:
        """Logits of the last hidden layer's output: the average to 2 x 2 and the linear layer."""
        is_adaptive = isinstance(self.average, nn.AdaptiveAvgPool2d)
        x = quadrants(x) if is_adaptive and torch.are_deterministic_algorithms_enabled() else self.average(x)
        logits: Tensor = self.linear(self.norm(x).flatten(1))
        return logits


class FloorAverage(nn.Module):
    """The average of (N, C, side, side) to 2 x 2 windows of side // 2 pixels: an odd side's last one is left out."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // QUADRANTS
        return F.avg_pool2d(x[..., : QUADRANTS * half, : QUADRANTS * half], half)


def quadrants(x: Tensor) -> Tensor:
    """The adaptive average of (N, C, H, W), H and W at least 2, to 2 x 2, with the gradient that CUDA can sum in order.

    The windows are the same; that of `nn.AdaptiveAvgPool2d` is refused under deterministic algorithms.
    """
    sides = x.shape[2:]
    return F.avg_pool2d(x, [-(-side // QUADRANTS) for side in sides], [side // QUADRANTS for side in sides])
