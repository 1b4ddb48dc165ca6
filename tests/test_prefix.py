"""Prefix weights that wait on the host: the same numbers, and no more on the device however many blocks there are."""

import torch
from torch import nn

from cascade import Block, Prefix, Quantiser
from pipeline.prefix import SLOTS, StreamedLayers, on_device

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


def test_what_is_on_the_device_does_not_grow_with_the_number_of_blocks() -> None:
    def on_it(blocks: int) -> int:
        whole = prefix(blocks)
        layers = StreamedLayers([nn.Sequential(block) for block in whole.blocks], CPU)
        return sum(slot.nbytes for slot in layers._slots)

    assert (
        on_it(40)
        == on_it(3)
        < SLOTS * 2 * max(sum(tensor.nbytes for tensor in block.state_dict().values()) for block in prefix(3).blocks)
    )
