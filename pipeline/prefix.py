"""Frozen blocks on the device: their weights there for good, or only while their block computes.

So that a stage that replays many blocks takes no more of the device than one that replays two.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
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


class _Turns:
    """Whose an end of the room is: a copy's, on a stream of its own, or the computation's.

    On a CPU one comes after the other, and there is nothing to wait for.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.Stream(device) if device.type == "cuda" else None
        self._arrived, self._is_free = ([torch.Event(device) for _ in range(ENDS if self._copies else 0)] for _ in "ab")

    @contextmanager
    def room(self, nbytes: int) -> Iterator[Tensor]:
        """Memory on the device; no copy to it is under way when it is given back, whatever was raised."""
        room = torch.empty(nbytes, dtype=torch.uint8, device=self._device)
        for event in self._is_free:  # of what used this memory before
            event.record(torch.cuda.current_stream(self._device))
        try:
            yield room
        finally:
            if self._copies:
                torch.cuda.current_stream(self._device).wait_stream(self._copies)

    @contextmanager
    def copying(self, end: int, *, alone: bool) -> Iterator[None]:
        """A copy to an end, once what was there, or `alone` in all of the room, has been computed with."""
        if not self._copies:
            yield
            return
        with self._copies:
            for taken in (end, 1 - end) if alone else (end,):
                self._copies.wait_event(self._is_free[taken])
            yield
            self._arrived[end].record(self._copies)

    @contextmanager
    def computing(self, end: int) -> Iterator[None]:
        """Computation with what is at an end, once it has arrived."""
        if not self._copies:
            yield
            return
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._arrived[end])
        yield
        self._is_free[end].record(stream)


class StreamedLayers:
    """Modules in sequence, in evaluation mode, of whose weights one layer's or two are on the device at a time.

    Room for them is there while a batch goes through, and no longer: a training step has no use for it.
    """

    def __init__(self, layers: Sequence[nn.Module], device: torch.device) -> None:
        self._waiting = [_packed(layer, pinned=device.type == "cuda") for layer in layers]
        sizes = [len(waiting.weights) for waiting in self._waiting]
        self._room_bytes = room_bytes(sizes)
        self._beside = [one + following <= self._room_bytes for one, following in pairwise(sizes)]
        """Whether each layer's weights have room beside the next one's, none for the last."""
        self._turns = _Turns(device)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        last = len(self._waiting) - 1
        with self._turns.room(self._room_bytes) as room:
            copy = self._copied(0, room)
            for number, waiting in enumerate(self._waiting):
                weights = waiting.within(copy)
                if number < last and self._beside[number]:
                    copy = self._copied(number + 1, room)
                with self._turns.computing(number % ENDS):
                    x = functional_call(waiting.layer, weights, x)
                if number < last and not self._beside[number]:
                    copy = self._copied(number + 1, room)
        return x

    def _copied(self, number: int, room: Tensor) -> Tensor:
        """The weights of a layer at its end of the room, once layers that were there have been computed with."""
        weights, end = self._waiting[number].weights, number % ENDS
        copy = room[len(room) - len(weights) :] if end else room[: len(weights)]
        with self._turns.copying(end, alone=number > 0 and not self._beside[number - 1]):
            return copy.copy_(weights, non_blocking=True)


def room_bytes(layers: Sequence[int]) -> int:
    """Bytes of the room for layers of so many bytes: the largest alone, or two of the next in size.

    So all but the largest arrive beside the computation of another. In the paper's networks that one is a block that
    samples down, whose weights are twice those of the blocks of its width; room for it and another would cost half as
    much again.
    """
    first, second, *_ = [*sorted(layers, reverse=True), 0, 0]
    return max(first, 2 * second)


def _packed(layer: nn.Module, *, pinned: bool) -> _Waiting:
    """A layer with its weights in one piece, its convolutions in channels-last memory, and no longer in its tensors."""
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
    layer.to("meta")  # else they were on the host twice; hooks and names stay
    return waiting
