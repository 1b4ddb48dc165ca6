"""What a stage does with the device, phase by phase, as programs that run on a real device or on fake tensors.

They call what a run calls: the method's modules and the optimiser. Only the loop of a training step and the rendering
of stored numbers are written down once more, without counts and files.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cascade import Head, Prefix, Quantiser, StageShape, make_block, make_head, recomputed, stage_parts
from cascade.calibration import PART
from cascade.heads import Average
from cascade.quantiser import STORED_TYPES
from pipeline.config import Train
from pipeline.device import autocast
from pipeline.learner import make_optimiser
from pipeline.ledger import Name, Program

PARAMETERS, BUFFERS, MOMENTUM = "parameters", "buffers", "momentum"
INPUT, STORED, FROZEN = "input", "stored", "prefix"
IMAGES = "images"
"""What x_0 is encoded as."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Blocks in sequence and a head, of a stage theta_j and gamma_j, and how they are trained."""

    shapes: tuple[StageShape, ...]
    """Of the blocks; the last one's output is what the head is on."""
    bare: bool = False
    """Whether there is no block, and the one shape only says what the head is on."""
    k: int
    classes: int
    batch_norm: bool
    pool: int
    """Of the head."""
    dtype: torch.dtype
    """Of convolutions."""
    bias: bool | None = None
    """Whether they have one; None where no batch norm follows."""
    average: Average = "adaptive"
    pooled_norm: bool = True
    """Of the head too."""
    recompute: bool
    """Whether only the inputs of the parts are kept for the backward pass."""

    @property
    def input(self) -> tuple[int, int, int]:
        """(C, H, W) of what is trained on."""
        shape = self.shapes[0]
        return shape.output if self.bare else (shape.in_channels, shape.in_side, shape.in_side)

    def modules(self) -> tuple[nn.Sequential, Head]:
        """Blocks and head on the device "meta", convolutions in channels-last memory."""
        last = self.shapes[-1]
        with torch.device("meta"):
            shapes = self.shapes[: 0 if self.bare else None]
            made = [make_block(shape, batch_norm=self.batch_norm, bias=self.bias) for shape in shapes]
            head = make_head(
                last,
                k=self.k,
                classes=self.classes,
                batch_norm=self.batch_norm,
                pool=self.pool,
                bias=self.bias,
                average=self.average,
                pooled_norm=self.pooled_norm,
            )
        blocks = nn.Sequential(*made)
        for module in (blocks, head):
            module.to(memory_format=torch.channels_last)
        return blocks, head


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What turns stored numbers into x_j: decoding, and blocks i..j-1 with their quantisers."""

    blocks: tuple[StageShape, ...]
    """Blocks i..j-1, on the fields that are stored: canvases, where these are."""
    stored: tuple[int, int, int]
    """(C, H, W) of x_i as it is decoded; of images, their window."""
    window: int
    """Side of x_j as the stage sees it."""
    encoding: str
    """Of x_i; of x_0 IMAGES."""
    between: str
    """Encoding between the blocks."""
    batch_norm: bool
    dtype: torch.dtype
    bias: bool | None = None

    def prefix(self) -> Prefix:
        """The frozen blocks, on the device "meta"."""
        with torch.device("meta"):
            prefix = Prefix(
                [make_block(shape, batch_norm=self.batch_norm, bias=self.bias) for shape in self.blocks],
                [Quantiser(self.between, shape.out_channels) for shape in self.blocks],
            )
        prefix.to(memory_format=torch.channels_last)
        return prefix


def training(stage: Trained, *, steps: int = 1) -> Program:
    """Training steps on x_j."""
    blocks, head = stage.modules()

    def run(device: torch.device, samples: int, name: Name) -> None:
        materialise([blocks, head], device)
        both = nn.Sequential(*blocks, head)
        name(PARAMETERS, both.parameters())
        name(BUFFERS, both.buffers())
        forward = recomputed(stage_parts(list(blocks), head)) if stage.recompute else both
        both.train(True)
        size = (samples, *stage.input)
        optimiser = make_optimiser([both], Train())
        name(MOMENTUM, optimiser.momentum)
        take_steps(forward, optimiser, size, stage.dtype, device, name, steps=steps)

    return run


def replaying(replayed: Replayed) -> Program:
    """x_j from stored numbers."""
    prefix = replayed.prefix()

    def run(device: torch.device, samples: int, name: Name) -> None:
        materialise([prefix], device)
        name(FROZEN, [*prefix.parameters(), *prefix.buffers()])
        _rendered(replayed, prefix, samples, device, name)

    return run


def evaluating(stage: Trained, replayed: Replayed) -> Program:
    """Logits from stored numbers."""
    (blocks, head), prefix = stage.modules(), replayed.prefix()

    def run(device: torch.device, samples: int, name: Name) -> None:
        materialise([blocks, head, prefix], device)
        name(FROZEN, [*prefix.parameters(), *prefix.buffers()])
        both = nn.Sequential(*blocks, head).train(False)
        name(PARAMETERS, [*both.parameters(), *both.buffers()])
        with torch.no_grad():
            x = _rendered(replayed, prefix, samples, device, name)
            with autocast(device, stage.dtype):
                x = both(x)
            x.float()

    return run


def writing(stage: Trained, replayed: Replayed, encoding: str) -> Program:
    """x_{j+1}, encoded, of whole fields of stored numbers."""
    (block, _), whole = stage.modules(), replace(replayed, window=0)
    prefix, quantiser = whole.prefix(), _quantiser(stage.shapes[-1], encoding)

    def run(device: torch.device, samples: int, name: Name) -> None:
        materialise([block, quantiser, prefix], device)
        name(FROZEN, [*prefix.parameters(), *prefix.buffers()])
        name(PARAMETERS, [*block.parameters(), *block.buffers()])
        with torch.no_grad():
            x = _rendered(whole, prefix, samples, device, name)
            with autocast(device, stage.dtype):
                x = quantiser.encode(block.train(False)(x))

    return run


def calibrating(stage: Trained, replayed: Replayed, encoding: str) -> Program:
    """x_{j+1}, and the squares of it and of what its encoding costs, from images."""
    (block, _), prefix, quantiser = stage.modules(), replayed.prefix(), _quantiser(stage.shapes[-1], encoding)

    def run(device: torch.device, samples: int, name: Name) -> None:
        materialise([block, quantiser, prefix], device)
        name(FROZEN, [*prefix.parameters(), *prefix.buffers()])
        name(PARAMETERS, [*block.parameters(), *block.buffers()])
        with torch.no_grad():
            x = _rendered(replayed, prefix, samples, device, name)
            with autocast(device, stage.dtype):
                x = block.train(False)(x)
            part = x[:PART].float()
            part.square().double().sum()  # a sum in float64 makes all of them float64 first
            (quantiser(part) - part).square().double().sum()

    return run


def materialise(modules: Iterable[nn.Module], device: torch.device) -> None:
    """Put modules that are on "meta" on the device, with weights of a usual size."""
    for module in modules:
        module.to_empty(device=device)
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.data.fill_(0.01)


class Optimiser(Protocol):
    """A step is `begin`, the backward passes of a batch, `step`."""

    def begin(self) -> None: ...

    def step(self) -> None: ...


def take_steps(
    forward: Callable[[Tensor], Tensor],
    optimiser: Optimiser,
    size: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    name: Name,
    *,
    steps: int = 1,
    parts: int = 1,
) -> None:
    """Steps on batches of some micro-batches, (N, C, H, W) each."""
    for _ in range(steps):
        optimiser.begin()
        for _ in range(parts):
            x = torch.empty(size, dtype=dtype, device=device, memory_format=torch.channels_last).fill_(1)
            y = torch.zeros(size[0], dtype=torch.int64, device=device)
            name(INPUT, [x])
            with autocast(device, dtype):
                logits = forward(x)
                del x  # the backward pass has what it needs of it
                loss = cross_entropy(logits.float(), y, reduction="sum")
            torch.autograd.backward(loss / len(y))
            del y, logits, loss  # before the next ones are made
        optimiser.step()


@torch.no_grad()
def _rendered(replayed: Replayed, prefix: Prefix, samples: int, device: torch.device, name: Name) -> Tensor:
    """x_j, as `rendering.Renderer` makes it of a window of stored numbers."""
    channels, height, width = replayed.stored
    stored = _stored(replayed, (samples, channels, height, width), device)
    name(STORED, [stored])  # which waits until x_j is made
    x = _decoded(replayed, stored)
    with autocast(device, replayed.dtype):
        x_j: Tensor = prefix(x.contiguous(memory_format=torch.channels_last))
    if replayed.window and replayed.window < x_j.shape[-1]:
        x_j = x_j[..., : replayed.window, : replayed.window].clone(memory_format=torch.channels_last)
    return x_j.contiguous(memory_format=torch.channels_last)


def _stored(replayed: Replayed, shape: Sequence[int], device: torch.device) -> Tensor:
    """Numbers of x_i as they are stored: ones."""
    *outer, width = shape
    packed = -(-width // 2) if replayed.encoding == "uint4" else width
    return torch.ones((*outer, packed), dtype=STORED_TYPES.get(replayed.encoding, torch.uint8), device=device)


def _decoded(replayed: Replayed, stored: Tensor) -> Tensor:
    """x_i of its numbers."""
    channels, _, width = replayed.stored
    if replayed.encoding == IMAGES:
        mean = torch.ones(channels, 1, 1, device=stored.device)
        return ((stored.float() / 255 - mean) / mean).to(replayed.dtype)
    decoder = Quantiser(replayed.encoding, channels).to(stored.device)
    return decoder.decode(decoder.unpack(stored, width), replayed.dtype)


def _quantiser(shape: StageShape, encoding: str) -> Quantiser:
    with torch.device("meta"):
        return Quantiser(encoding, shape.out_channels)
