"""What a stage does with the device, phase by phase, as programs that run on a real device or on fake tensors.

They call what a run calls: the method's modules and the step that trains. Only the rendering of stored numbers is
written down once more, without files.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cascade import Head, Outputs, Prefix, Quantiser, StageShape, make_block, make_head, training_forward
from cascade.calibration import PART
from cascade.heads import Average
from cascade.quantiser import STORED_TYPES
from pipeline.augmentation import centre_of, cut
from pipeline.checkpoint import Progress
from pipeline.config import Train
from pipeline.device import autocast
from pipeline.learner import make_optimiser
from pipeline.ledger import Name, Program
from pipeline.resizing import Sizes
from pipeline.step import Optimiser, train_step

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
    bn_group: int = 0
    """Samples that batch norm takes its statistics over, and a similarity loss compares; 0 is a whole micro-batch."""
    pool: int
    """Of the head."""
    dtype: torch.dtype
    """Of convolutions."""
    bias: bool | None = None
    """Whether they have one; None where no batch norm follows."""
    average: Average = "adaptive"
    pooled_norm: bool = True
    """Of the head too."""
    similarity: bool = False
    """Whether a similarity loss is part of what is trained on."""
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
            made = [
                make_block(shape, batch_norm=self.batch_norm, bn_group=self.bn_group, bias=self.bias)
                for shape in shapes
            ]
            head = make_head(
                last,
                k=self.k,
                classes=self.classes,
                batch_norm=self.batch_norm,
                pool=self.pool,
                bias=self.bias,
                average=self.average,
                pooled_norm=self.pooled_norm,
                bn_group=self.bn_group,
                similarity=self.similarity,
            )
        blocks = nn.Sequential(*made)
        for module in (blocks, head):
            module.to(memory_format=torch.channels_last)
        return blocks, head


Layer = tuple[StageShape, str]
"""A frozen block, and what its output is encoded as."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What turns stored numbers into x_j: decoding, blocks i..j-1 with their quantisers, and cutting on the way."""

    blocks: tuple[Layer, ...]
    """On the fields that are stored: canvases, where these are."""
    after_cut: tuple[Layer, ...] = ()
    """On the windows that are cut from what the others make."""
    stored: tuple[int, int, int]
    """(C, H, W) of x_i as it is stored; of images, what is cut from them first."""
    window: int = 0
    """Side of the windows that are cut; 0 where fields are taken whole."""
    resized_from: int = 0
    """Side of images whose windows are resized, in pixels; 0 where they are cut as they are."""
    is_cut_stored: bool = False
    """Whether windows are cut from stored numbers, before these are decoded."""
    encoding: str
    """Of x_i; of x_0 IMAGES."""
    batch_norm: bool
    dtype: torch.dtype
    bias: bool | None = None

    def prefixes(self) -> tuple[Prefix, Prefix]:
        """The frozen blocks before and after the cut, on the device "meta"."""
        return self._prefix(self.blocks), self._prefix(self.after_cut)

    def _prefix(self, layers: Sequence[Layer]) -> Prefix:
        with torch.device("meta"):
            prefix = Prefix(
                [make_block(shape, batch_norm=self.batch_norm, bias=self.bias) for shape, _ in layers],
                [Quantiser(encoding, shape.out_channels) for shape, encoding in layers],
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
        forward = training_forward(list(blocks), head, recompute=stage.recompute)
        both.train(True)
        size = (samples, *stage.input)
        optimiser = make_optimiser([both], Train())
        name(MOMENTUM, optimiser.momentum)
        take_steps(forward, optimiser, size, stage.dtype, device, name, steps=steps, group=stage.bn_group)

    return run


def replaying(replayed: Replayed) -> Program:
    """x_j from stored numbers."""
    prefixes = replayed.prefixes()

    def run(device: torch.device, samples: int, name: Name) -> None:
        _freeze(prefixes, device, name)
        _rendered(replayed, prefixes, samples, device, name)

    return run


def evaluating(stage: Trained, replayed: Replayed) -> Program:
    """Logits from stored numbers."""
    (blocks, head), prefixes = stage.modules(), replayed.prefixes()

    def run(device: torch.device, samples: int, name: Name) -> None:
        materialise([blocks, head], device)
        _freeze(prefixes, device, name)
        both = nn.Sequential(*blocks, head).train(False)
        name(PARAMETERS, [*both.parameters(), *both.buffers()])
        with torch.no_grad():
            x = _rendered(replayed, prefixes, samples, device, name)
            with autocast(device, stage.dtype):
                x = both(x)
            x.float()

    return run


def writing(stage: Trained, replayed: Replayed, encoding: str) -> Program:
    """x_{j+1}, encoded, from stored numbers."""
    (block, _), prefixes, quantiser = stage.modules(), replayed.prefixes(), _quantiser(stage.shapes[-1], encoding)

    def run(device: torch.device, samples: int, name: Name) -> None:
        materialise([block, quantiser], device)
        _freeze(prefixes, device, name)
        name(PARAMETERS, [*block.parameters(), *block.buffers()])
        with torch.no_grad():
            x = _rendered(replayed, prefixes, samples, device, name)
            with autocast(device, stage.dtype):
                x = quantiser.encode(block.train(False)(x))

    return run


def calibrating(stage: Trained, replayed: Replayed, encoding: str) -> Program:
    """x_{j+1}, and the squares of it and of what its encoding costs, from images."""
    (block, _), prefixes, quantiser = stage.modules(), replayed.prefixes(), _quantiser(stage.shapes[-1], encoding)

    def run(device: torch.device, samples: int, name: Name) -> None:
        materialise([block, quantiser], device)
        _freeze(prefixes, device, name)
        name(PARAMETERS, [*block.parameters(), *block.buffers()])
        with torch.no_grad():
            x = _rendered(replayed, prefixes, samples, device, name)
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


class _Steps(NamedTuple):
    """What is stepped with."""

    forward: Callable[[Tensor], Outputs]
    optimiser: Optimiser
    group: int
    """Samples that a similarity loss compares."""
    label_smoothing: float = 0.0
    """Which takes no memory that counts."""
    similarity: float = 0.5
    """Where there are features, any share but 0."""


def take_steps(
    forward: Callable[[Tensor], Outputs],
    optimiser: Optimiser,
    size: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    name: Name,
    *,
    steps: int = 1,
    parts: int = 1,
    group: int = 0,
) -> None:
    """Steps on batches of some micro-batches, (N, C, H, W) each."""

    def part() -> tuple[Tensor, Tensor]:
        x = torch.empty(size, dtype=dtype, device=device, memory_format=torch.channels_last).fill_(1)
        name(INPUT, [x])
        return x, torch.zeros(size[0], dtype=torch.int64, device=device)

    progress = Progress.fresh(device)
    for _ in range(steps):
        train_step(_Steps(forward, optimiser, group), (part() for _ in range(parts)), parts * size[0], dtype, progress)


def _freeze(prefixes: Sequence[Prefix], device: torch.device, name: Name) -> None:
    """Put the frozen blocks on the device."""
    materialise(prefixes, device)
    for prefix in prefixes:
        name(FROZEN, [*prefix.parameters(), *prefix.buffers()])


@torch.no_grad()
def _rendered(
    replayed: Replayed, prefixes: tuple[Prefix, Prefix], samples: int, device: torch.device, name: Name
) -> Tensor:
    """x_j, as `rendering.Renderer` makes it of stored numbers."""
    (channels, height, width), (before, after) = replayed.stored, prefixes
    if side := replayed.resized_from:
        images = _stored(replayed, (samples, channels, side, side), device)
        name(STORED, [images])
        return _through(replayed, before, _decoded(replayed, _resized(images, width)))
    stored = _stored(replayed, (samples, channels, height, width), device)
    name(STORED, [stored])  # which waits until x_j is made
    if not replayed.window:
        return _through(replayed, before, _decoded(replayed, stored))
    if replayed.is_cut_stored:
        return _through(replayed, after, _decoded(replayed, stored, replayed.window))
    return _through(replayed, after, _cut(_through(replayed, before, _decoded(replayed, stored)), replayed.window))


def _through(replayed: Replayed, prefix: Prefix, x: Tensor) -> Tensor:
    with autocast(x.device, replayed.dtype):
        x_j: Tensor = prefix(x.contiguous(memory_format=torch.channels_last))
    return x_j.contiguous(memory_format=torch.channels_last)


def _cut(x: Tensor, side: int) -> Tensor:
    """Windows of fields."""
    return cut(x, centre_of(x.shape[-1], side, len(x)))


def _resized(images: Tensor, side: int) -> Tensor:
    """Windows of images, resized from the whole of them."""
    whole = np.full(len(images), images.shape[-1])
    return cut(images, replace(centre_of(side, side, len(images)), sizes=Sizes(whole, whole)))


def _stored(replayed: Replayed, shape: Sequence[int], device: torch.device) -> Tensor:
    """Numbers of x_i as they are stored: ones."""
    *outer, width = shape
    packed = -(-width // 2) if replayed.encoding == "uint4" else width
    return torch.ones((*outer, packed), dtype=STORED_TYPES.get(replayed.encoding, torch.uint8), device=device)


def _decoded(replayed: Replayed, stored: Tensor, window: int = 0) -> Tensor:
    """x_i of its numbers, or of windows of them."""
    channels, _, width = replayed.stored
    if replayed.encoding == IMAGES:
        mean = torch.ones(channels, 1, 1, device=stored.device)
        return ((stored.float() / 255 - mean) / mean).to(replayed.dtype)
    decoder = Quantiser(replayed.encoding, channels).to(stored.device)
    numbers = decoder.unpack(stored, width)
    return decoder.decode(_cut(numbers, window) if window else numbers, replayed.dtype)


def _quantiser(shape: StageShape, encoding: str) -> Quantiser:
    with torch.device("meta"):
        return Quantiser(encoding, shape.out_channels)
