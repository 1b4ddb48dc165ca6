"""The peak of a stage's memory on the device, predicted from what its code does on fake tensors.

A stage trains in micro-batches, from x_i that it takes through a prefix; it is evaluated, its scale is taken and
x_{j+1} is written in runs of samples. The peak is the largest of what these take, with all that lives beside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch

from cache import sample_bytes
from cascade import StageShape
from cascade.heads import Average
from pipeline.ledger import Memory, memory_at, memory_of
from pipeline.outline import Outline
from pipeline.prefix import room_bytes
from pipeline.programs import (
    BUFFERS,
    FROZEN,
    IMAGES,
    MOMENTUM,
    PARAMETERS,
    STORED,
    Layer,
    Replayed,
    Trained,
    calibrating,
    evaluating,
    replaying,
    training,
    writing,
)
from pipeline.shapes import canvas_side
from pipeline.transfer import AHEAD

WORKSPACE_BYTES = 0
"""Allowance for what cuDNN's kernels take beside their results, where no real step was run: none was on a GPU yet."""
WORKSPACE = "kernels' workspace"
"""What a training step takes beside what its program allocates."""
REPEATS = 2
"""Equal blocks in a row of a prefix that are looked at: what a third takes, the second took."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is trained on x_j, what it reads, and how."""

    shapes: tuple[StageShape, ...]
    """Of the blocks from 0 to the last that is trained, of a stage j, the images' windows at their entry."""
    blocks: int = 1
    """Of these the last ones, which are trained: all end to end; 0 under a probe, whose last shape is of its head
    alone, on its output."""
    writes: bool = True
    """Whether the scale of what the last block makes is taken, and that is written."""
    anchor: int
    """i of the x_i that is read, 0..j; 0 is the images."""
    k: int
    classes: int
    batch_norm: bool
    bn_group: int = 0
    """Samples that batch norm takes its statistics over; 0 is a whole micro-batch."""
    pool: int = 1
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
    encodings: tuple[str, ...]
    """Of x_1..x_{j+1}."""
    batch_size: int
    """Samples of a training step."""
    run_samples: int
    """Samples that are evaluated and written at a time, `order.run`."""
    image_side: int = 0
    """Of stored images, in pixels; 0 is the side of their windows."""
    canvas_side: int = 0
    """Of the padded images whose features are stored, under the policy "canvas"; 0 where windows are stored."""
    resized_from: int = 0
    """Side of the images that training windows are resized from, in pixels; 0 where they are cut."""
    cut_at: int = 0
    """i of the x_i past which no canvases are stored: later stages' windows are cut from it; 0 is none."""
    recompute: bool = False
    """Whether only the inputs of the parts are kept for the backward pass."""
    device_type: str = "cuda"

    @property
    def frozen(self) -> tuple[StageShape, ...]:
        """Of the blocks 0..j-1."""
        return self.shapes[: -max(self.blocks, 1)]

    def trained(self) -> Trained:
        """What is trained; j itself makes no difference."""
        return Trained(
            shapes=_unnumbered(self.shapes[len(self.frozen) :]),
            bare=not self.blocks,
            k=self.k,
            classes=self.classes,
            batch_norm=self.batch_norm,
            bn_group=self.bn_group if self.batch_norm or self.similarity else 0,
            pool=self.pool,
            dtype=self.dtype,
            bias=self.bias,
            average=self.average,
            pooled_norm=self.pooled_norm,
            similarity=self.similarity,
            recompute=self.recompute,
        )

    @property
    def j(self) -> int:
        """Index of the x_j that is trained on."""
        return len(self.frozen)

    @property
    def cut_from(self) -> int:
        """i of the x_i that the windows are cut from, where canvases are stored."""
        return min(self.j, self.cut_at) if self.cut_at else self.j

    @property
    def is_written(self) -> bool:
        """Whether x_{j+1} may be stored."""
        return self.writes and not 0 < self.cut_at <= self.j

    def replayed(self, start: int, *, to: Literal["train", "test", "scale", "write"] = "test") -> Replayed:
        """x_j from x_start: windows to train or test on, or to take a scale of, or fields to write x_{j+1} of."""
        is_canvas = self.canvas_side > 0 and (self.j > 0 or to == "write")
        is_cut = is_canvas and to != "write"
        cut_from = self.cut_from if is_cut else self.j
        side = self._side(start) if is_canvas else self.shapes[start].in_side
        layers = tuple(zip(_unnumbered(self.frozen), self.encodings[: self.j], strict=True))
        return Replayed(
            blocks=_shortened(layers[start:cut_from]),
            after_cut=_shortened(layers[cut_from:]),
            stored=(self.shapes[start].in_channels, side, side),
            window=self.shapes[cut_from].in_side if is_cut else 0,
            resized_from=self.resized_from if start == 0 and to != "test" else 0,
            is_cut_stored=to == "train" and start == cut_from,
            encoding=self.encodings[start - 1] if start else IMAGES,
            batch_norm=self.batch_norm,
            dtype=self.dtype,
            bias=self.bias,
        )

    def stored_bytes(self, start: int, samples: int) -> int:
        """Bytes on the device of stored samples of x_start that are on their way."""
        if self.device_type == "cpu":
            return 0  # they are the host's
        shape = self.shapes[start]
        if start == 0:
            one = shape.in_channels * (self.image_side or shape.in_side) ** 2
        else:
            side = self._side(start)
            one = sample_bytes(self.encodings[start - 1], (shape.in_channels, side, side))
        return AHEAD * samples * one

    def _side(self, start: int) -> int:
        """Of x_start as it is stored; of x_0, as it is cut from images to be stored."""
        first, side = self.shapes[0].in_side, self.shapes[start].in_side
        return self.canvas_side * side // first if self.canvas_side else side


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Predicted bytes on the device, of each phase, weights of the prefix i..j-1 not counted."""

    training: int
    """Of a step on a micro-batch."""
    replay: int
    """While x_j of the next micro-batch is made."""
    evaluation: int
    """Of a run of samples, beside what is trained."""
    calibration: int
    """While the scale of x_{j+1} is taken, through all blocks before, whose weights are streamed and counted."""
    write_back: int
    """While x_{j+1} is made of a run of samples; 0 where it is never stored."""
    prefix_resident: int
    """Weights of blocks i..j-1, where all stay on the device."""
    prefix_streamed: int
    """Of the room for those that are there at a time where they are streamed; in training steps there is none."""
    parts: dict[str, int]
    """What the peak of a training step is made of, and adds up to: parameters, momentum, buffers, input, activations
    with gradients on their way into the momentum; stored numbers, and what of kernels lies beside."""

    @property
    def streamed(self) -> int:
        """The peak of the stage where prefix weights are streamed."""
        from_anchor = max(self.replay, self.evaluation, self.write_back)
        return max(self.training, from_anchor + self.prefix_streamed, self.calibration)

    @property
    def resident(self) -> int:
        """The peak of the stage where they stay on the device."""
        all_phases = (self.training, self.replay, self.evaluation, self.calibration, self.write_back)
        return max(all_phases) + self.prefix_resident


def predicted_step(work: Work, micro_batch: int) -> int:
    """Bytes of a training step, without what its kernels take beside."""
    return _step(work.trained(), micro_batch).peak(micro_batch)


def _step(stage: Trained, micro_batch: int) -> Memory:
    is_linear = not 0 < stage.bn_group < micro_batch and not stage.similarity  # which takes pairs of samples
    return _training(replace(stage, bn_group=0)) if is_linear else _training_at(stage, micro_batch)


def predicted_peak(work: Work, micro_batch: int, *, beside: int = WORKSPACE_BYTES) -> Peak:
    """The peak of a stage, or of what else is trained, in micro-batches of this size, where a step takes so many bytes
    `beside` what its code allocates; what is no step, as many where that is more than nothing.

    Takes a fraction of a second for a stage like none before, and next to nothing for another stage of the
    same shape, or for another micro-batch where that is one group of batch norm and no similarity loss is taken.
    """
    stage, anchor = work.trained(), work.anchor
    ungrouped = replace(stage, bn_group=0)
    step, run = _step(stage, micro_batch), work.run_samples
    constant = step.total(PARAMETERS) + step.total(BUFFERS) + max(beside, 0)
    trained = constant + step.total(MOMENTUM)
    frozen = replace(ungrouped, recompute=False)
    stored, stored_run = work.stored_bytes(anchor, micro_batch), work.stored_bytes(anchor, run)
    layers = [_layer_bytes(shape, work.batch_norm, work.bias) for shape in _unnumbered(work.frozen)]
    own = [FROZEN, PARAMETERS] + [STORED] * (work.device_type == "cpu")  # there it is the host's
    parts = step.parts(micro_batch) | {STORED: stored, WORKSPACE: beside}
    fields, cut_from = work.replayed(anchor, to="write"), max(work.cut_from, anchor)
    written = _writing(frozen, fields, work.encodings[-1]).peak(run, without=own) if work.is_written else 0
    return Peak(
        training=sum(parts.values()),
        replay=trained + stored + _replaying(work.replayed(anchor, to="train")).peak(micro_batch, without=own),
        evaluation=trained + stored_run + _evaluating(frozen, work.replayed(anchor)).peak(run, without=own),
        calibration=constant
        + room_bytes(layers)
        + work.stored_bytes(0, run)
        + _calibrating(frozen, work.replayed(0, to="scale"), work.encodings[-1]).peak(run, without=own)
        if work.writes
        else 0,
        write_back=constant + stored_run + written if work.is_written else 0,
        prefix_resident=sum(layers[anchor:]),
        prefix_streamed=max(room_bytes(layers[anchor:cut_from]), room_bytes(layers[cut_from:])),
        parts=parts,
    )


def stage_work(
    outline: Outline, j: int, *, anchor: int, device_type: str, dtype: torch.dtype, recompute: bool = False
) -> Work:
    """Stage j of a run that reads x_anchor, on a device of that type."""
    config = outline.config.for_stage(j)
    return Work(
        shapes=(*outline.shapes[:j], outline.shapes[j].before_cut),  # at its widest
        anchor=anchor,
        k=config.head.k,
        classes=outline.classes,
        batch_norm=config.network.batch_norm,
        bn_group=config.network.bn_group,
        pool=config.head.pool,
        bias=config.network.has_bias,
        average=config.head.average,
        pooled_norm=config.head.pooled_norm,
        similarity=config.head.similarity > 0,
        dtype=dtype,
        encodings=tuple(outline.encoding(i) for i in range(1, j + 2)),
        batch_size=config.train.batch_size,
        run_samples=config.order.run,
        image_side=outline.side,
        canvas_side=canvas_side(config, outline.side) if config.augment.policy == "canvas" else 0,
        resized_from=outline.side if config.augment.scale else 0,
        cut_at=config.augment.cut_at if config.augment.policy == "canvas" else 0,
        recompute=recompute,
        device_type=device_type,
    )


@cache
def _training(stage: Trained) -> Memory:
    return memory_of(lambda: training(stage))


@cache
def _training_at(stage: Trained, samples: int) -> Memory:
    """Of a micro-batch of whole groups, or of pairs in one, which says nothing of another size."""
    return memory_at(training(stage), samples)


@cache
def _replaying(replayed: Replayed) -> Memory:
    return memory_of(lambda: replaying(replayed))


@cache
def _evaluating(stage: Trained, replayed: Replayed) -> Memory:
    return memory_of(lambda: evaluating(stage, replayed))


@cache
def _calibrating(stage: Trained, replayed: Replayed, encoding: str) -> Memory:
    return memory_of(lambda: calibrating(stage, replayed, encoding))


@cache
def _writing(stage: Trained, replayed: Replayed, encoding: str) -> Memory:
    return memory_of(lambda: writing(stage, replayed, encoding))


@cache
def _layer_bytes(shape: StageShape, batch_norm: bool, bias: bool | None) -> int:
    """Of the weights of a frozen block and its quantiser."""
    layer = Replayed(
        blocks=((shape, "float32"),),
        stored=(1, 1, 1),
        encoding=IMAGES,
        batch_norm=batch_norm,
        dtype=torch.float32,
        bias=bias,
    )
    prefix, _ = layer.prefixes()
    return sum(tensor.nbytes for tensor in (*prefix.parameters(), *prefix.buffers()))


def _unnumbered(shapes: Sequence[StageShape]) -> tuple[StageShape, ...]:
    """Shapes that are equal wherever they are in a network."""
    return tuple(replace(shape, j=0) for shape in shapes)


def _shortened(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Without what is repeated more than REPEATS times in a row, which takes no more memory to replay."""
    kept: list[Layer] = []
    for layer in layers:
        if kept[-REPEATS:] != [layer] * REPEATS:
            kept.append(layer)
    return tuple(kept)
