"""Batch norm over groups: a batch can then be taken through a network in parts, and comes out the same."""

import torch
from torch import Tensor, nn


class GroupedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics, in training, are those of `group` samples at a time; 0 is the whole batch.

    Maps (N, C, H, W) to (N, C, H, W). Samples first..first+group-1 of the batch are a group, the last one may be
    smaller; each moves the running statistics in turn. So any split of a batch between groups gives the same outputs,
    gradients and running statistics. In evaluation it is `nn.BatchNorm2d`, and its state has the same names.
    """

    def __init__(self, channels: int, group: int = 0) -> None:
        super().__init__(channels)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not 0 < self.group < len(x):
            return super().forward(x)
        groups = torch.split(x, self.group)  # whose gradients are joined; those of slices would be padded and summed
        return torch.cat([super(GroupedBatchNorm, self).forward(group) for group in groups])
