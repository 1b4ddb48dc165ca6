"""Compression of a trained block: which filters matter, and the network without the others.

Molchanov et al. (2016): a filter matters as much as the loss would change, to first order, were its output zero.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cascade.blocks import Block
from cascade.heads import QUADRANTS, Head


def taylor_scores(x: Tensor, y: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
    """What each channel of x_{j+1}, (N, C, H, W), matters to the cross entropy of its `logits` for labels (N,).

    Of every example the absolute spatial mean of activation times gradient, summed over examples: (C,) in float64.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        loss = cross_entropy(logits(x).float(), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
    scores = (x.detach().float() * gradient.float()).mean((2, 3)).abs()
    return scores.double().sum(0)


def strongest(scores: Tensor, count: int) -> list[int]:
    """Indices, in ascending order, of the `count` largest scores; of equal ones those that come first."""
    order = torch.sort(scores, descending=True, stable=True).indices
    kept: list[int] = order[:count].sort().values.tolist()
    return kept


@torch.no_grad()
def keep_filters(block: Block, head: Head, kept: Sequence[int]) -> None:
    """Cut all filters of a block off but those `kept`, and with them what a head does with their output."""
    index = torch.tensor(kept, device=block.conv.weight.device)
    _keep_outputs(block.conv, index)
    _keep_channels(block.norm, index)
    if len(head.hidden):
        first = head.hidden[0]
        assert isinstance(first, nn.Conv2d), "a hidden layer begins with its convolution"
        first.weight = _parameter(first.weight.index_select(1, index))
        first.in_channels = len(kept)
        return
    _keep_channels(head.norm, index)
    classes, columns = head.linear.weight.shape
    by_channel = head.linear.weight.view(classes, columns // QUADRANTS**2, QUADRANTS**2)
    head.linear.weight = _parameter(by_channel.index_select(1, index).flatten(1))
    head.linear.in_features = len(kept) * QUADRANTS**2


def _keep_outputs(conv: nn.Conv2d, index: Tensor) -> None:
    conv.weight = _parameter(conv.weight.index_select(0, index))
    if conv.bias is not None:
        conv.bias = _parameter(conv.bias[index])
    conv.out_channels = len(index)


def _keep_channels(norm: nn.Module, index: Tensor) -> None:
    """Of batch norm; where there is none, nothing."""
    if not isinstance(norm, nn.BatchNorm2d):
        return
    norm.weight, norm.bias = _parameter(norm.weight[index]), _parameter(norm.bias[index])
    assert norm.running_mean is not None, "a block keeps running statistics"
    assert norm.running_var is not None, "likewise"
    norm.running_mean, norm.running_var = norm.running_mean[index], norm.running_var[index]
    norm.num_features = len(index)


def _parameter(weight: Tensor) -> nn.Parameter:
    """In the memory that it would have, had it been made so."""
    is_field = weight.dim() == 4
    return nn.Parameter(weight.contiguous(memory_format=torch.channels_last if is_field else torch.contiguous_format))
