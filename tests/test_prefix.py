"""Prefix weights that wait on the host: the same numbers, and no more on the device however many blocks there are."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from cascade import Block, Prefix, Quantiser
from pipeline.prefix import StreamedLayers, _Turns, on_device, room_bytes

CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]


def prefix(blocks: int) -> Prefix:
    torch.manual_seed(0)
    made = [Block(4 if i else 3, 4, downsample="invertible" if i == 1 else None) for i in range(blocks)]
    for block in made:
        block(
            torch.randn(8, block.conv.in_channels // (4 if block.downsample.__class__ is not nn.Identity else 1), 8, 8)
        )
    return Prefix(made, [Quantiser("float16", 4) for _ in made])


def layers_of(prefix: Prefix) -> list[nn.Module]:
    return [nn.Sequential(*pair) for pair in zip(prefix.blocks, prefix.quantisers, strict=True)]


@pytest.mark.parametrize("name", DEVICES)
def test_streamed_blocks_give_the_bits_of_resident_ones(name: str) -> None:
    device = torch.device(name)
    x = torch.randn(8, 3, 16, 16).to(device, memory_format=torch.channels_last)
    expected = on_device(prefix(5), device)(x)
    streamed = StreamedLayers(layers_of(prefix(5)), device)
    for _ in range(2):  # the slots are used again
        torch.testing.assert_close(streamed(x), expected, rtol=0, atol=0)


def test_streamed_weights_are_on_the_host_once_and_hooks_see_their_blocks() -> None:
    whole = prefix(3)
    streamed, seen = StreamedLayers(layers_of(whole), CPU), list[bool]()
    assert all(tensor.is_meta for tensor in whole.state_dict().values())
    with whole.blocks[1].register_forward_hook(lambda _, x, y: seen.append(bool(y.isfinite().all()))):
        streamed(torch.randn(8, 3, 16, 16))
    assert seen == [True]


def test_tensors_of_streamed_layers_begin_where_those_that_torch_allocates_may() -> None:
    streamed = StreamedLayers(layers_of(prefix(3)), CPU)
    places = [place for waiting in streamed._waiting for place in waiting.places.values()]
    assert any(place.stop % 256 for place in places), "or they all would in any case"
    assert [place.first % 256 for place in places] == [0] * len(places)


@pytest.mark.parametrize("name", DEVICES)
def test_after_a_layer_that_raises_the_next_batch_comes_through(name: str) -> None:
    device, whole = torch.device(name), prefix(5)
    x = torch.randn(8, 3, 16, 16).to(device)
    streamed = StreamedLayers(layers_of(whole), device)
    expected = streamed(x)

    def refuse(*_: object) -> None:
        raise RuntimeError("out of memory")

    with whole.blocks[0].register_forward_hook(refuse), pytest.raises(RuntimeError, match="out of memory"):
        streamed(x)
    torch.testing.assert_close(streamed(x), expected, rtol=0, atol=0)


def test_whatever_is_raised_the_computation_waits_for_copies_before_the_room_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns, waited = _Turns(CPU), list[object]()
    turns._copies = copies = object()  # type: ignore[assignment]

    class Computation:
        def __init__(self, device: torch.device) -> None: ...

        def wait_stream(self, stream: object) -> None:
            waited.append(stream)

    monkeypatch.setattr(torch.cuda, "current_stream", Computation)
    with pytest.raises(RuntimeError, match="out of memory"), turns.room(8):
        raise RuntimeError("out of memory")
    assert waited == [copies]


@pytest.mark.parametrize(
    ("layers", "room"), [([5, 5, 5], 10), ([1, 8, 4, 4], 8), ([1, 9, 5, 4], 10), ([3, 2], 4), ([7], 7), ([], 0)]
)
def test_room_is_for_the_largest_layer_or_two_of_the_next(layers: list[int], room: int) -> None:
    assert room_bytes(layers) == room <= sum(layers)


@pytest.mark.parametrize("name", DEVICES)
def test_a_layer_without_room_beside_the_one_before_comes_after_it(name: str) -> None:
    torch.manual_seed(0)
    device = torch.device(name)
    layers = [nn.Conv2d(size, following, 1).to(device).eval() for size, following in pairwise([3, 4, 300, 200, 5, 2])]
    x = torch.randn(2, 3, 4, 4, device=device)
    expected = nn.Sequential(*layers)(x)
    streamed = StreamedLayers(layers, device)
    sizes = [len(waiting.weights) for waiting in streamed._waiting]
    beside = [one + other <= room_bytes(sizes) for one, other in pairwise(sizes)]
    assert not all(beside)
    assert any(beside)
    torch.testing.assert_close(streamed(x), expected)


def test_what_is_on_the_device_does_not_grow_with_the_number_of_blocks() -> None:
    def on_it(blocks: int) -> int:
        return StreamedLayers([nn.Sequential(block) for block in prefix(blocks).blocks], CPU)._room_bytes

    assert on_it(40) == on_it(4)
