"""What lies in a run folder beside the stores that a plan chooses between, and what its stages will add to that."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch

from cascade import make_block, make_head
from pipeline.disk import folder_bytes, run_bytes
from pipeline.outline import Outline
from pipeline.plan import PLAN
from pipeline.runfolder import RunFolder

CHECKPOINTS = 3
"""Of a stage at a time: the newest, the one before it, and the one that is written beside both."""
RECORD_BYTES, EPOCH_BYTES, CHANNEL_BYTES, TENSOR_BYTES = 6_000, 600, 24, 160
"""At most: of a stage's records, of an epoch's line, of a channel's scale in JSON, of a tensor's name and place."""
PLAN_BYTES = 2_000
"""At most, of plan.json, for each stage and each alternative."""


@dataclass(frozen=True)
class StageBytes:
    """Of a stage's own files, in bytes."""

    kept: int
    """Of what stays: weights, test outputs, metrics, scale, records."""
    checkpoints: int
    """Of the checkpoints while it trains, with momentum, all that are there at a time."""


def stage_bytes(outline: Outline, j: int) -> StageBytes:
    """Of stage j, known from its shapes; at most."""
    config, shape = outline.config.for_stage(j), outline.shapes[j]
    with torch.device("meta"):
        block = make_block(shape, batch_norm=config.network.batch_norm)
        head = make_head(
            shape,
            k=config.head.k,
            classes=outline.classes,
            batch_norm=config.network.batch_norm,
            pool=config.head.pool,
            similarity=config.head.similarity > 0,
        )
    tensors = [tensor for module in (block, head) for tensor in module.state_dict().values()]
    momentum = [parameter for module in (block, head) for parameter in module.parameters()]
    weights = sum(one.nbytes + TENSOR_BYTES for one in tensors)
    logits = 4 * outline.samples["test"] * outline.classes
    texts = RECORD_BYTES + EPOCH_BYTES * config.train.epochs + CHANNEL_BYTES * shape.out_channels
    checkpoint = RECORD_BYTES + weights + sum(one.nbytes + TENSOR_BYTES for one in momentum)
    return StageBytes(kept=weights + logits + texts, checkpoints=CHECKPOINTS * checkpoint)


def bytes_to_come(outline: Outline, stages: list[int]) -> int:
    """What stages that are not trained will add to the folder, the largest checkpoints of one included, and the
    plan."""
    own = [stage_bytes(outline, j) for j in stages]
    most = max((one.checkpoints for one in own), default=0)
    return sum(one.kept for one in own) + most + PLAN_BYTES * (len(outline.shapes) + 10)


def deletable(run: RunFolder, stages: int) -> dict[int, int]:
    """Index i >= 1 -> bytes there of x_i, whole or not, of those that a plan of so many stages may delete: not what a
    stage that stands in for another wrote."""
    return _bytes_there(run, range(1, stages))


def _bytes_there(run: RunFolder, indices: Iterable[int]) -> dict[int, int]:
    own = [index for index in indices if not run.is_stand_in(index - 1)]
    found = {index: sum(folder_bytes(run.store(index, split)) for split in run.splits) for index in own}
    return {index: nbytes for index, nbytes in found.items() if nbytes}


def beside_bytes(run: RunFolder, stages: int, *, stores: Collection[int] = ()) -> int:
    """What is taken off the disk budget of a plan of so many stages before stores are chosen: all that it is of but
    x_0, what the plan may delete, and the x_i of `stores`, which it counts itself; and what is to come."""
    untrained = [j for j in range(stages) if run.stages[j].record is None]
    images = sum(folder_bytes(run.store(0, split)) for split in run.splits)
    begun = sum(_own_bytes(run, j) for j in untrained)
    counted = _bytes_there(run, {*range(1, stages), *stores})
    plan = folder_bytes(run.path / PLAN)  # which is to come anew
    there = run_bytes(run.path) - images - begun - plan - sum(counted.values())
    return there + bytes_to_come(run.outline, untrained)


def _own_bytes(run: RunFolder, j: int) -> int:
    """What is there of a stage that is under way, its output left out."""
    output = sum(folder_bytes(run.store(j + 1, split)) for split in run.splits)
    return folder_bytes(run.stages[j].path) - output
