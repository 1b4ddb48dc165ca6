"""The network end to end: all blocks and a head like the last stage's, trained at once, nothing between rounded."""

from dataclasses import replace

import msgspec
from torch import nn

from cascade import StageShape
from pipeline.config import Config, HeadSection
from pipeline.errors import CorruptDataError
from pipeline.experiments.places import BASELINES
from pipeline.keys import Fields, key_of, stage_fields
from pipeline.problem import Problem
from pipeline.runfolder import RunFolder
from pipeline.stage_folder import StageFolder
from pipeline.weights import load_modules, load_tensors

NAME = "end to end"


def end_to_end(run: RunFolder) -> Problem:
    """All blocks and the head, on the images in the order and with the augmentation of stage 0.

    Block j begins with the weights that stage j begins with, and the head with the last stage's.
    """
    last, config = len(run.shapes) - 1, run.config
    width = config.baseline.head_width or run.shapes[-1].head_width
    shape = replace(run.shapes[-1], head_width=width, cut_from=None)
    fields = _fields(run, shape)
    return Problem(
        what=NAME,
        j=0,
        blocks=range(last + 1),
        shape=shape,
        head=_head(config),
        head_of=last,
        train=config.baseline_train,
        fields=fields,
        folder=StageFolder(run.path / BASELINES, last, key_of(fields), "", ""),
        section="baseline",
    )


def _head(config: Config) -> HeadSection:
    """Like the last stage's, without a similarity loss, which is of a block."""
    return msgspec.structs.replace(config.for_stage(config.network.stages - 1).head, similarity=0.0)


def _fields(run: RunFolder, shape: StageShape) -> Fields:
    """Those of stage 0, but of all blocks, and of the head as `shape` has it."""
    config = run.config
    own = msgspec.structs.replace(config, head=_head(config), train=config.baseline_train, stages={})
    entry = replace(run.shapes[0], head_width=shape.head_width, out_side=shape.out_side, cut_from=None)
    fields = stage_fields(own, entry, side=run.side, classes=run.classes, input_key=run.info.digest)
    widths, ways = [one.out_channels for one in run.shapes], [one.downsample for one in run.shapes]
    return {**fields, "of": NAME, "network.width": widths, "network.downsample": ways}


def load_end_to_end(run: RunFolder) -> nn.Sequential:
    """The trained network without normalisation, x_0 as stage 0 reads it to logits, in evaluation mode.

    Raises CorruptDataError.
    """
    problem = end_to_end(run)
    folder, record, (block, head) = problem.folder, problem.folder.record, problem.modules(run)
    if record is None:
        raise CorruptDataError(f"{folder.record_path} is missing\nnext: {run.command('baseline')}")
    for path, module in ((folder.block, {"block": block}), (folder.head, {"head": head})):
        tensors, _ = load_tensors(path, content=record.content.get(path.stem, ""), remedy=trained_again(run))
        load_modules(tensors, path, **module)
    return nn.Sequential(block, head).eval()


def trained_again(run: RunFolder) -> str:
    """What to do about files of it that are damaged."""
    return f"delete {end_to_end(run).folder.path} and {run.command('baseline')}"
