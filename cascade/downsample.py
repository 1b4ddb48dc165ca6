"""P_j, the down-sampling at the entry of a block: the paper's choice and the three it is compared with.

Every one halves the sides. The invertible one keeps every number and so multiplies the channels by four; the
other three keep the channels (Sec. 3.1 and Appendix C.1, Table 5).
"""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

Downsample = Literal["invertible", "strided", "average", "max"]
DOWNSAMPLES: tuple[Downsample, ...] = get_args(Downsample)


class InvertibleDownsample(nn.Module):
    """Reorganise (N, C, H, W) into its four decimated copies, (N, 4C, H/2, W/2).

    Channel 4c + 2a + b of the output is `x[:, c, a::2, b::2]`, the order of `torch.nn.PixelUnshuffle(2)`; the
    map of Dinh et al. (2017) that the paper cites is the same up to that permutation of channels.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 2)

    def inverse(self, y: Tensor) -> Tensor:
        """The x, (N, C, H, W), that `forward` maps to y, (N, 4C, H/2, W/2)."""
        return F.pixel_shuffle(y, 2)


def channels_after(downsample: Downsample | None, channels: int) -> int:
    """Channels that the block's convolution sees when its input has `channels`."""
    return 4 * channels if downsample == "invertible" else channels


def make_downsample(downsample: Downsample | None) -> nn.Module:
    """P_j as a module. `None` and "strided" give the identity: a strided block down-samples in its convolution."""
    match downsample:
        case None | "strided":
            return nn.Identity()
        case "invertible":
            return InvertibleDownsample()
        case "average":
            return nn.AvgPool2d(2)
        case "max":
            return nn.MaxPool2d(2)
    raise ValueError(f"downsample = {downsample!r}: expected one of {', '.join(DOWNSAMPLES)}")
