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

SLOTS = 2
"""Layers whose weights are on the device at a time: one that computes, one that arrives."""
ALIGNMENT = 256
"""Bytes that each tensor of a layer starts at a multiple of, as torch's own allocations do."""


def on_device(prefix: Prefix, device: torch.device, *, streamed: bool = False) -> Callable[[Tensor], Tensor]:
    """The prefix as a function of x_i on the device; x_i to x_j, (N, C, H, W) float32.

    With `streamed`, weights wait on the host, and are copied each time, beside the computation of the block before. On
    a CPU they are there anyway.
    """
    if not streamed or device.type == "cpu" or len(prefix.blocks) <= SLOTS:
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

    def within(self, slot: Tensor) -> dict[str, Tensor]:
        """Its tensors in a slot that its bytes were copied to."""
        return {
            name: slot[place.first : place.stop].view(place.dtype).as_strided(place.shape, place.stride)
            for name, place in self.places.items()
        }


class StreamedLayers:
    """Modules in sequence, in evaluation mode, of whose weights SLOTS are on the device at a time."""

    def __init__(self, layers: Sequence[nn.Module], device: torch.device) -> None:
        self.device = device
        self._waiting = [_packed(layer, pinned=device.type == "cuda") for layer in layers]
        largest = max(len(waiting.weights) for waiting in self._waiting)
        self._slots = [torch.empty(largest, dtype=torch.uint8, device=device) for _ in range(SLOTS)]
        self._copies = torch.Stream(device) if device.type == "cuda" else None
        self._arrived = [torch.Event(device) for _ in range(SLOTS)] if self._copies else []
        self._is_free = [torch.Event(device) for _ in range(SLOTS)] if self._copies else []

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        self._copy(0)
        for number, waiting in enumerate(self._waiting):
            if number + 1 < len(self._waiting):
                self._copy(number + 1)
            slot = number % SLOTS
            if self._copies is not None:
                torch.cuda.current_stream(self.device).wait_event(self._arrived[slot])
            x = functional_call(waiting.layer, waiting.within(self._slots[slot]), x)
            if self._copies is not None:
                self._is_free[slot].record(torch.cuda.current_stream(self.device))
        return x

    def _copy(self, number: int) -> None:
        """Bring the weights of a layer to its slot, once that is free."""
        weights, slot = self._waiting[number].weights, number % SLOTS
        if self._copies is None:
            self._slots[slot][: len(weights)].copy_(weights)
            return
        with self._copies:
            self._copies.wait_event(self._is_free[slot])
            self._slots[slot][: len(weights)].copy_(weights, non_blocking=True)
            self._arrived[slot].record(self._copies)


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
