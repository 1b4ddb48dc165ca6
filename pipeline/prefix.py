"""Frozen blocks on the device: their weights there for good, or only while their block computes.

So that a stage that replays many blocks takes no more of the device than one that replays two.
"""

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cascade import Prefix
from pipeline.device import place

Weights = dict[str, Tensor]


def on_device(prefix: Prefix, device: torch.device, *, resident_bytes: int | None = None) -> Callable[[Tensor], Tensor]:
    """The prefix as a function of x_i on the device; x_i to x_j, (N, C, H, W) float32.

    The first blocks whose weights take no more than `resident_bytes` together stay there; the others' are copied from
    pinned memory each time, the next block's beside the computation of the one before. None keeps all there, as on a
    CPU, where they are anyway.
    """
    layers = list(zip(prefix.blocks, prefix.quantisers, strict=True))
    if resident_bytes is None or device.type == "cpu":
        place(prefix, device)
        return prefix
    taken = 0
    waiting = 0
    for number, layer in enumerate(layers):
        taken += sum(weights_bytes(module) for module in layer)
        if taken > resident_bytes:
            waiting = len(layers) - number
            break
    resident = layers[: len(layers) - waiting]
    first = Prefix([block for block, _ in resident], [quantiser for _, quantiser in resident])  # type: ignore[misc]
    place(first, device)
    rest = StreamedLayers([nn.Sequential(*layer) for layer in layers[len(resident) :]], device)
    return lambda x: rest(first(x))


def weights_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


class StreamedLayers:
    """Modules in sequence, in evaluation mode, whose weights wait on the host."""

    def __init__(self, layers: list[nn.Sequential], device: torch.device) -> None:
        self.device = device
        self._layers = layers
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._host = [{name: self._waiting(tensor) for name, tensor in layer.state_dict().items()} for layer in layers]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        for layer, weights in zip(self._layers, self._arriving(), strict=True):
            x = functional_call(layer, weights, x)
        return x

    def _waiting(self, tensor: Tensor) -> Tensor:
        if tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.pin_memory() if self._stream is not None else tensor

    def _arriving(self) -> Iterator[Weights]:
        """The weights of each layer on the device; the next layer's are under way meanwhile."""
        under_way: deque[Weights] = deque()
        for host in self._host:
            under_way.append(self._copy(host))
            if len(under_way) > 1:
                yield self._arrived(under_way.popleft())
        while under_way:
            yield self._arrived(under_way.popleft())

    def _copy(self, host: Weights) -> Weights:
        if self._stream is None:
            return {name: tensor.to(self.device, copy=True) for name, tensor in host.items()}
        with torch.cuda.stream(self._stream):
            return {name: tensor.to(self.device, non_blocking=True) for name, tensor in host.items()}

    def _arrived(self, weights: Weights) -> Weights:
        if self._stream is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_stream(self._stream)
            for tensor in weights.values():
                tensor.record_stream(stream)
        return weights
