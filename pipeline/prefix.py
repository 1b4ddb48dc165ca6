"""Frozen blocks on the device: their weights there for good, or only while their block computes.

So that a stage that replays many blocks takes no more of the device than one that replays two.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cascade import Prefix
from pipeline.device import place

ENDS = 2
"""Of the room for weights: layers of even number lie at its beginning, of odd number at its end."""
ALIGNMENT = 256
"""Bytes that each tensor of a layer starts at a multiple of, as torch's own allocations do."""


def on_device(prefix: Prefix, device: torch.device, *, streamed: bool = False) -> Callable[[Tensor], Tensor]:
    """The prefix as a function of x_i on the device; x_i to x_j, (N, C, H, W).

    With `streamed`, weights wait on the host, and are copied each time, beside the computation of the block before
    where there is room for both. On a CPU they are there anyway.
    """
    if not streamed or device.type == "cpu" or not len(prefix.blocks):
        place(prefix, device)
        return prefix
    layers = zip(prefix.blocks, prefix.quantisers, strict=True)
    return StreamedLayers([nn.Sequential(*layer) for layer in layers], device)


class _Place(NamedTuple):
    """Where a tensor of a layer lies among its bytes."""

    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    first: int
    stop: int


class _Waiting(NamedTuple):
    """A layer whose weights wait on the host, in one piece."""

    layer: nn.Module
    weights: Tensor
    """Bytes, (n,), pinned on CUDA."""
    places: dict[str, _Place]

    def within(self, copy: Tensor) -> dict[str, Tensor]:
        """Its tensors in a copy of its bytes."""
        return {
            name: copy[place.first : place.stop].view(place.dtype).as_strided(place.shape, place.stride)
            for name, place in self.places.items()
        }


class StreamedLayers:
    """Modules in sequence, in evaluation mode, of whose weights one layer's or two are on the device at a time.

    Room for them is there while a batch goes through, and no longer: a training step has no use for it.
    """

    def __init__(self, layers: Sequence[nn.Module], device: torch.device) -> None:
        self.device = device
        self._waiting = [_packed(layer, pinned=device.type == "cuda") for layer in layers]
        self._room_bytes = room_bytes([len(waiting.weights) for waiting in self._waiting])
        self._copies = torch.Stream(device) if device.type == "cuda" else None
        self._arrived = [torch.Event(device) for _ in range(ENDS)] if self._copies else []
        self._is_free = [torch.Event(device) for _ in range(ENDS)] if self._copies else []

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        room = torch.empty(self._room_bytes, dtype=torch.uint8, device=self.device)
        for event in self._is_free:  # of what used this memory before
            event.record(torch.cuda.current_stream(self.device))
        copy = self._copied(0, room)
        for number, waiting in enumerate(self._waiting):
            layer, weights, is_last = waiting.layer, waiting.within(copy), number + 1 == len(self._waiting)
            beside = not is_last and len(copy) + len(self._waiting[number + 1].weights) <= len(room)
            if beside:
                copy = self._copied(number + 1, room)
            if self._copies is not None:
                torch.cuda.current_stream(self.device).wait_event(self._arrived[number % ENDS])
            x = functional_call(layer, weights, x)
            if self._copies is not None:
                self._is_free[number % ENDS].record(torch.cuda.current_stream(self.device))
            if not is_last and not beside:
                copy = self._copied(number + 1, room)
        return x

    def _copied(self, number: int, room: Tensor) -> Tensor:
        """The weights of a layer at its end of the room, once layers that were there have been computed with."""
        weights, end = self._waiting[number].weights, number % ENDS
        copy = room[len(room) - len(weights) :] if end else room[: len(weights)]
        if self._copies is None:
            return copy.copy_(weights)
        with self._copies:
            self._copies.wait_event(self._is_free[end])
            if number and len(weights) + len(self._waiting[number - 1].weights) > len(room):
                self._copies.wait_event(self._is_free[1 - end])
            copy.copy_(weights, non_blocking=True)
            self._arrived[end].record(self._copies)
        return copy


def room_bytes(layers: Sequence[int]) -> int:
    """Bytes of the room for layers of so many bytes: the largest alone, or two of the next in size.

    So all but the largest arrive beside the computation of another. In the paper's networks that one is a block that
    samples down, whose weights are twice those of the blocks of its width; room for it and another would cost half as
    much again.
    """
    first, second, *_ = [*sorted(layers, reverse=True), 0, 0]
    return max(first, 2 * second)


def _packed(layer: nn.Module, *, pinned: bool) -> _Waiting:
    """A layer with its weights in one piece, its convolutions in channels-last memory."""
    tensors = {name: tensor.cpu() for name, tensor in layer.state_dict().items()}
    places, first = {}, 0
    for name, tensor in tensors.items():
        if tensor.ndim == 4:
            tensors[name] = tensor = tensor.contiguous(memory_format=torch.channels_last)
        places[name] = _Place(tensor.dtype, tensor.shape, tensor.stride(), first, first + tensor.nbytes)
        first += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    weights = torch.empty(first, dtype=torch.uint8, pin_memory=pinned)
    waiting = _Waiting(layer.eval(), weights, places)
    for name, tensor in waiting.within(weights).items():
        tensor.copy_(tensors[name])
    return waiting
