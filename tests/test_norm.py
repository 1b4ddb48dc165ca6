"""Batch norm over groups: how a batch is split changes neither outputs nor gradients nor running statistics."""

import pytest
import torch
from torch import Tensor, nn

from cascade import GroupedBatchNorm, StageShape, make_block, make_head

SHAPE = StageShape(j=0, in_channels=3, in_side=16, out_channels=8, out_side=16, downsample=None, head_width=16)


def stage(bn_group: int) -> nn.Sequential:
    torch.manual_seed(0)
    block = make_block(SHAPE, batch_norm=True, bn_group=bn_group)
    return nn.Sequential(block, make_head(SHAPE, k=3, classes=10, batch_norm=True, bn_group=bn_group)).double()


def gradients(network: nn.Module, x: Tensor, y: Tensor, micro_batch: int) -> dict[str, Tensor]:
    """Of the mean cross entropy of a batch that comes in parts."""
    for i in range(0, len(x), micro_batch):
        part, labels = x[i : i + micro_batch], y[i : i + micro_batch]
        torch.autograd.backward(nn.functional.cross_entropy(network(part), labels, reduction="sum") / len(x))
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("micro_batch", [32, 64])
def test_gradients_and_running_statistics_do_not_depend_on_the_micro_batch(micro_batch: int) -> None:
    x, y = torch.randn(128, 3, 16, 16, dtype=torch.float64), torch.randint(10, (128,))
    whole, parts = stage(32), stage(32)
    expected, found = gradients(whole, x, y, 128), gradients(parts, x, y, micro_batch)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(dict(parts.named_buffers()), dict(whole.named_buffers()), rtol=1e-9, atol=1e-12)


def test_without_groups_they_do() -> None:
    x, y = torch.randn(128, 3, 16, 16, dtype=torch.float64), torch.randint(10, (128,))
    expected, found = gradients(stage(0), x, y, 128), gradients(stage(0), x, y, 32)
    assert any((found[name] - gradient).abs().max() > 1e-4 for name, gradient in expected.items())


def test_a_group_of_the_whole_batch_is_batch_norm_as_torch_has_it() -> None:
    x = torch.randn(16, 4, 5, 5)
    torch.testing.assert_close(GroupedBatchNorm(4, 16)(x), nn.BatchNorm2d(4)(x), rtol=0, atol=0)


def test_in_evaluation_a_sample_does_not_depend_on_its_group() -> None:
    norm, x = GroupedBatchNorm(4, 8), torch.randn(16, 4, 5, 5)
    norm(x)
    norm.eval()
    torch.testing.assert_close(norm(x)[:3], norm(x[:3]), rtol=0, atol=0)
