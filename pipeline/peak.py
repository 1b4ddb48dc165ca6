"""The peak of a stage's memory on the device, predicted from what its code does on fake tensors.

A stage trains in micro-batches, from x_i that it takes through a prefix; it is evaluated, its scale is taken and
x_{j+1} is written in runs of samples. The peak is the largest of what these take, with all that lives beside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from cache import sample_bytes
from cascade import StageShape
from cascade.heads import Average
from pipeline.ledger import Memory, memory_of
from pipeline.outline import Outline
from pipeline.prefix import room_bytes
from pipeline.programs import (
    BUFFERS,
    FROZEN,
    IMAGES,
    MOMENTUM,
    PARAMETERS,
    STORED,
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
"""Allowance for what cuDNN's kernels take beside their results. None was measured on a GPU yet; `measure` shows it."""
JOINED, WORKSPACE = "joined groups", "kernels' workspace"
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
    encoding: str
    """Of every x_i, i >= 1."""
    batch_size: int
    """Samples of a training step."""
    run_samples: int
    """Samples that are evaluated and written at a time, `order.run`."""
    image_side: int = 0
    """Of stored images, in pixels; 0 is the side of their windows."""
    canvas_side: int = 0
    """Of the padded images whose features are stored, under the policy "canvas"; 0 where windows are stored."""
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
            pool=self.pool,
            dtype=self.dtype,
            bias=self.bias,
            average=self.average,
            pooled_norm=self.pooled_norm,
            recompute=self.recompute,
        )

    def replayed(self, start: int) -> Replayed:
        """x_j from x_start."""
        shape, window = self.shapes[start], self.shapes[len(self.frozen)].in_side
        scale = self.canvas_side if start < len(self.frozen) else 0
        side = shape.in_side * scale // self.shapes[0].in_side if scale else shape.in_side
        blocks = _unnumbered(self.frozen[start:])
        return Replayed(
            blocks=_shortened(blocks),
            stored=(shape.in_channels, side, side),
            window=window,
            encoding=self.encoding if start else IMAGES,
            between=self.encoding,
            batch_norm=self.batch_norm,
            dtype=self.dtype,
            bias=self.bias,
        )

    def stored_bytes(self, start: int, samples: int) -> int:
        """Bytes on the device of stored samples of x_start that are on their way."""
        if self.device_type == "cpu":
            return 0  # they are the host's
        shape = self.shapes[start]
        side = self.canvas_side * shape.in_side // self.shapes[0].in_side if self.canvas_side else shape.in_side
        if start == 0:
            one = shape.in_channels * (self.image_side or shape.in_side) ** 2
        else:
            one = sample_bytes(self.encoding, (shape.in_channels, side, side))
        return AHEAD * samples * one


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
    """While x_{j+1} is made of a run of samples."""
    prefix_resident: int
    """Weights of blocks i..j-1, where all stay on the device."""
    prefix_streamed: int
    """Of the room for those that are there at a time where they are streamed; in training steps there is none."""
    parts: dict[str, int]
    """What the peak of a training step is made of, and adds up to: parameters, momentum, buffers, input, activations
    with gradients on their way into the momentum; stored numbers, and what of groups and kernels lies beside."""

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


def predicted_peak(work: Work, micro_batch: int) -> Peak:
    """The peak of a stage, or of what else is trained, in micro-batches of this size.

    Takes a fraction of a second for a stage like none before, and next to nothing for another micro-batch or for
    another stage of the same shape.
    """
    stage, anchor = work.trained(), work.anchor
    near, far = work.replayed(anchor), work.replayed(0)
    step, run = _training(stage), work.run_samples
    constant = step.total(PARAMETERS) + step.total(BUFFERS) + WORKSPACE_BYTES
    trained = constant + step.total(MOMENTUM)
    frozen = replace(stage, recompute=False)
    stored, stored_run = work.stored_bytes(anchor, micro_batch), work.stored_bytes(anchor, run)
    layers = [_layer_bytes(shape, work.batch_norm, work.bias) for shape in _unnumbered(work.frozen)]
    own = [FROZEN, PARAMETERS] + [STORED] * (work.device_type == "cpu")  # there it is the host's
    beside = {STORED: stored, JOINED: _joined(work, micro_batch), WORKSPACE: WORKSPACE_BYTES}
    parts = step.parts(micro_batch) | beside
    return Peak(
        training=sum(parts.values()),
        replay=trained + stored + _replaying(near).peak(micro_batch, without=own),
        evaluation=trained + stored_run + _evaluating(frozen, near).peak(run, without=own),
        calibration=constant
        + room_bytes(layers)
        + work.stored_bytes(0, run)
        + _calibrating(frozen, far, work.encoding).peak(run, without=own)
        if work.writes
        else 0,
        write_back=constant + stored_run + _writing(frozen, near, work.encoding).peak(run, without=own)
        if work.writes
        else 0,
        prefix_resident=sum(layers[anchor:]),
        prefix_streamed=room_bytes(layers[anchor:]),
        parts=parts,
    )


def stage_work(
    outline: Outline, j: int, *, anchor: int, device_type: str, dtype: torch.dtype, recompute: bool = False
) -> Work:
    """Stage j of a run that reads x_anchor, on a device of that type."""
    config = outline.config.for_stage(j)
    stored = outline.config.for_stage(anchor - 1 if anchor else j).store.encoding
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
        dtype=dtype,
        encoding=stored,
        batch_size=config.train.batch_size,
        run_samples=config.order.run,
        image_side=outline.side,
        canvas_side=canvas_side(config, outline.side) if config.augment.policy == "canvas" else 0,
        recompute=recompute,
        device_type=device_type,
    )


def _joined(work: Work, micro_batch: int) -> int:
    """Bytes that batch norm over more than one group takes beside: its groups' results, until they are one."""
    if not work.batch_norm or not 0 < work.bn_group < micro_batch:
        return 0
    shape, side = work.shapes[-1], work.shapes[-1].out_side // work.pool
    in_head = shape.head_width * side**2 if work.k > 1 else 0
    in_blocks = [one.out_channels * one.out_side**2 for one in work.shapes[len(work.frozen) :]] if work.blocks else []
    return micro_batch * max(*in_blocks, in_head, 0) * work.dtype.itemsize


@cache
def _training(stage: Trained) -> Memory:
    return memory_of(lambda: training(stage))


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
    prefix = Replayed(
        blocks=(shape,),
        stored=(1, 1, 1),
        window=0,
        encoding=IMAGES,
        between="float32",
        batch_norm=batch_norm,
        dtype=torch.float32,
        bias=bias,
    ).prefix()
    return sum(tensor.nbytes for tensor in (*prefix.parameters(), *prefix.buffers()))


def _unnumbered(shapes: Sequence[StageShape]) -> tuple[StageShape, ...]:
    """Shapes that are equal wherever they are in a network."""
    return tuple(replace(shape, j=0) for shape in shapes)


def _shortened(blocks: Sequence[StageShape]) -> tuple[StageShape, ...]:
    """Without what is repeated more than REPEATS times in a row, which takes no more memory to replay."""
    kept: list[StageShape] = []
    for shape in blocks:
        if kept[-REPEATS:] != [shape] * REPEATS:
            kept.append(shape)
    return tuple(kept)
