"""Prefix weights that wait on the host: the same numbers, and no more on the device however many blocks there are."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from cascade import Block, Prefix, Quantiser
from pipeline.prefix import StreamedLayers, on_device, room_bytes

CPU = torch.device("cpu")


def prefix(blocks: int) -> Prefix:
    torch.manual_seed(0)
    made = [Block(4 if i else 3, 4, downsample="invertible" if i == 1 else None) for i in range(blocks)]
    for block in made:
        block(
            torch.randn(8, block.conv.in_channels // (4 if block.downsample.__class__ is not nn.Identity else 1), 8, 8)
        )
    return Prefix(made, [Quantiser("float16", 4) for _ in made])


def test_streamed_blocks_give_the_bits_of_resident_ones() -> None:
    whole = prefix(5)
    streamed = StreamedLayers([nn.Sequential(*pair) for pair in zip(whole.blocks, whole.quantisers, strict=True)], CPU)
    x = torch.randn(8, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    for _ in range(2):  # the slots are used again
        torch.testing.assert_close(streamed(x), on_device(whole, CPU)(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("layers", "room"), [([5, 5, 5], 10), ([1, 8, 4, 4], 8), ([1, 9, 5, 4], 10), ([3, 2], 4), ([7], 7), ([], 0)]
)
def test_room_is_for_the_largest_layer_or_two_of_the_next(layers: list[int], room: int) -> None:
    assert room_bytes(layers) == room <= sum(layers)


def test_a_layer_without_room_beside_the_one_before_comes_after_it() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(size, following, 1).eval() for size, following in pairwise([3, 4, 300, 200, 5, 2])]
    streamed, x = StreamedLayers(layers, CPU), torch.randn(2, 3, 4, 4)
    sizes = [len(waiting.weights) for waiting in streamed._waiting]
    assert any(one + other > room_bytes(sizes) for one, other in pairwise(sizes))
    torch.testing.assert_close(streamed(x), nn.Sequential(*layers)(x), rtol=0, atol=0)


def test_what_is_on_the_device_does_not_grow_with_the_number_of_blocks() -> None:
    def on_it(blocks: int) -> int:
        return StreamedLayers([nn.Sequential(block) for block in prefix(blocks).blocks], CPU)._room_bytes

    assert on_it(40) == on_it(4)
