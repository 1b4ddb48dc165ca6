import pytest
import torch
from torch import Tensor, nn

from cascade import DOWNSAMPLES, Block, Downsample, InvertibleDownsample
from cascade.downsample import channels_after, make_downsample


def irevnet_order(x: Tensor) -> Tensor:
    """The squeeze of i-RevNet's released code: columns split in pairs, then rows, the channels innermost."""
    n, channels, height, _ = x.shape
    pairs = torch.split(x.permute(0, 2, 3, 1), 2, dim=2)
    rows = torch.stack([pair.reshape(n, height // 2, 4 * channels) for pair in pairs], dim=1)
    return rows.permute(0, 3, 2, 1)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 4, 6), (5, 16, 8, 8)])
def test_invertible_loses_no_bit(shape: tuple[int, int, int, int]) -> None:
    x = torch.randn(shape)
    p = InvertibleDownsample()
    assert torch.equal(p.inverse(p(x)), x)
    y = torch.randn(shape[0], 4 * shape[1], shape[2] // 2, shape[3] // 2)
    assert torch.equal(p(p.inverse(y)), y)


def test_invertible_is_four_decimated_copies() -> None:
    x = torch.randn(2, 3, 4, 6)
    y = InvertibleDownsample()(x)
    assert y.shape == (2, 12, 2, 3)
    for c in range(3):
        for a in range(2):
            for b in range(2):
                assert torch.equal(y[:, 4 * c + 2 * a + b], x[:, c, a::2, b::2])


def test_invertible_is_pixel_unshuffle() -> None:
    x = torch.randn(2, 3, 4, 6)
    assert torch.equal(InvertibleDownsample()(x), nn.PixelUnshuffle(2)(x))


def test_invertible_is_the_squeeze_of_irevnet_up_to_a_permutation_of_channels() -> None:
    channels = 3
    x = torch.randn(2, channels, 4, 6)
    ours, theirs = InvertibleDownsample()(x), irevnet_order(x)
    assert not torch.equal(ours, theirs)
    block_major = [(2 * a + b) * channels + c for c in range(channels) for a in range(2) for b in range(2)]
    assert sorted(block_major) == list(range(4 * channels))
    assert torch.equal(ours, theirs[:, block_major])


@pytest.mark.parametrize("downsample", DOWNSAMPLES)
def test_every_down_sampling_halves_the_sides_of_a_block(downsample: Downsample) -> None:
    assert Block(3, 5, downsample=downsample)(torch.randn(2, 3, 8, 12)).shape == (2, 5, 4, 6)


@pytest.mark.parametrize(("downsample", "channels"), [("invertible", 12), ("strided", 3), ("average", 3), ("max", 3)])
def test_only_the_invertible_one_multiplies_the_channels(downsample: Downsample, channels: int) -> None:
    assert channels_after(downsample, 3) == channels
    assert Block(3, 5, downsample=downsample).conv.in_channels == channels


def test_average_and_max_are_over_two_by_two_pixels() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert make_downsample("average")(x).item() == 3
    assert make_downsample("max")(x).item() == 6


def test_no_down_sampling_is_the_identity() -> None:
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(make_downsample(None)(x), x)


def test_unknown_down_sampling_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="downsample = 'median': expected one of invertible, strided, average, max"):
        make_downsample("median")  # type: ignore[arg-type]
