"""theta_j: one block of the network, x_{j+1} = ReLU(W P x_j) (Eq. 1), or with a skip connection ReLU(W x_j + x_j)."""

import torch.nn.functional as F
from torch import Tensor, nn

from cascade.convolution import Convolution
from cascade.downsample import Downsample, channels_after, make_downsample
from cascade.norm import GroupedBatchNorm


class Block(nn.Module):
    """Down-sampling, 3x3 convolution with padding 1, optional batch norm, ReLU.

    Maps (N, in_channels, H, W) to (N, out_channels, H', W'), where H' = H/2 if `downsample` is given, else H.
    Without a word on `bias` the convolution has one only where no batch norm follows, as in the released code: batch
    norm would cancel it. The paper has batch norm for k >= 2 and none for k = 1 (Sec. 4.1, 4.3). Its statistics are
    those of `bn_group` samples at a time, 0 of the whole batch. With `residual`, x is added before the ReLU; the shapes
    have to be equal.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        downsample: Downsample | None = None,
        batch_norm: bool = True,
        bn_group: int = 0,
        bias: bool | None = None,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.downsample = make_downsample(downsample)
        self.conv = Convolution(
            channels_after(downsample, in_channels),
            out_channels,
            kernel_size=3,
            padding=1,
            stride=2 if downsample == "strided" else 1,
            bias=not batch_norm if bias is None else bias,
        )
        self.norm = GroupedBatchNorm(out_channels, bn_group) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(self.downsample(x)))
        if self.residual:
            y += x
        return F.relu(y, inplace=True)
