import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cascade import DOWNSAMPLES, Block, Downsample


@pytest.mark.parametrize("batch_norm", [True, False])
def test_convolution_has_a_bias_only_where_no_batch_norm_follows(batch_norm: bool) -> None:
    block = Block(3, 5, batch_norm=batch_norm)
    assert (block.conv.bias is None) == batch_norm
    assert isinstance(block.norm, nn.BatchNorm2d) == batch_norm
    assert any(isinstance(module, nn.BatchNorm2d) for module in block.modules()) == batch_norm


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("downsample", [None, *DOWNSAMPLES])
def test_output_is_never_negative(downsample: Downsample | None, batch_norm: bool) -> None:
    y = Block(3, 8, downsample=downsample, batch_norm=batch_norm)(torch.randn(4, 3, 8, 8))
    assert (y >= 0).all()
    assert (y > 0).any()


def test_block_is_equation_1() -> None:
    block = Block(3, 5, downsample="invertible", batch_norm=False)
    x = torch.randn(2, 3, 8, 8)
    copies = torch.stack([x[:, :, a::2, b::2] for a in range(2) for b in range(2)], dim=2).flatten(1, 2)
    expected = F.relu(F.conv2d(copies, block.conv.weight, block.conv.bias, padding=1))
    assert torch.equal(block(x), expected)


def test_batch_norm_stands_between_convolution_and_relu() -> None:
    block = Block(3, 5)
    x = torch.randn(8, 3, 6, 6)
    z = F.conv2d(x, block.conv.weight, padding=1)
    mean, variance = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(block(x), F.relu((z - mean) / (variance + 1e-5).sqrt()), atol=1e-5, rtol=1e-5)


def test_strided_block_is_every_second_pixel_of_the_whole_convolution() -> None:
    strided, whole = Block(3, 5, downsample="strided", batch_norm=False), Block(3, 5, batch_norm=False)
    whole.load_state_dict(strided.state_dict())
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(strided(x), whole(x)[:, :, ::2, ::2])


@pytest.mark.parametrize("side", [4, 7])
def test_block_without_down_sampling_keeps_the_sides(side: int) -> None:
    assert Block(3, 5)(torch.randn(2, 3, side, side)).shape == (2, 5, side, side)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_convolution_has_a_bias_where_no_batch_norm_follows_or_where_it_is_told_to(batch_norm: bool) -> None:
    assert (Block(3, 5, batch_norm=batch_norm).conv.bias is None) == batch_norm
    assert Block(3, 5, batch_norm=batch_norm, bias=True).conv.bias is not None
    assert Block(3, 5, batch_norm=batch_norm, bias=False).conv.bias is None
