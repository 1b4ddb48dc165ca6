"""Trained stages, back from their files as plain modules."""

from collections import OrderedDict
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import Normalize

from cascade import Block, CentreWindow, Head, Network, Prefix, Quantiser, StageShape, make_block, make_head
from pipeline.config import Config, HeadSection
from pipeline.errors import CorruptDataError, RefusedError
from pipeline.runfolder import RunFolder
from pipeline.sealed import read_sealed
from pipeline.shapes import canvas_side
from pipeline.weights import load_modules, load_tensors


class EncodingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How the output of a stage is encoded, and what that costs."""

    encoding: str
    """Name of the encoding."""
    scale: list[float]
    """Of each channel; ones where the encoding has none."""
    signal_to_noise_db: float | None
    """Of the encoded activations, over samples other than those that the scale was taken from; None without error."""
    saturated_share: float
    """Share of the activations, over the same, that the encoding cuts off, 0..1."""
    block: str
    """Content hash of the block whose output it is of."""


def new_block(run: RunFolder, j: int, *, before_cut: bool = False) -> Block:
    """theta_j, not trained; `before_cut` with the filters that compression cuts off."""
    return configured_block(run.config, run.shapes[j].before_cut if before_cut else run.shapes[j])


def new_head(run: RunFolder, j: int) -> Head:
    """gamma_j, not trained."""
    return new_head_like(run, run.shapes[j], run.config.for_stage(j).head)


def new_head_like(run: RunFolder, shape: StageShape, head: HeadSection) -> Head:
    """A head on what a shape says that a block makes, not trained."""
    return configured_head(run.config, head, shape, classes=run.classes)


def configured_block(config: Config, shape: StageShape) -> Block:
    """theta_j of a config, not trained."""
    network = config.network
    return make_block(shape, batch_norm=network.batch_norm, bn_group=network.bn_group, bias=network.has_bias)


def configured_head(config: Config, head: HeadSection, shape: StageShape, *, classes: int) -> Head:
    """A head of a config's network, not trained."""
    network = config.network
    return make_head(
        shape,
        k=head.k,
        classes=classes,
        batch_norm=network.batch_norm,
        pool=head.pool,
        bn_group=network.bn_group,
        bias=network.has_bias,
        average=head.average,
        pooled_norm=head.pooled_norm,
        similarity=head.similarity > 0,
    )


def new_quantiser(run: RunFolder, j: int) -> Quantiser:
    """The quantiser of x_{j+1}, its scale not set."""
    return Quantiser(run.config.for_stage(j).store.encoding, run.shapes[j].out_channels)


def kept_tensors(run: RunFolder, j: int, path: Path, *, remedy: str | None = None) -> dict[str, Tensor]:
    """What a file of the trained stage j holds, which has to be the one that it ended with.

    Raises RefusedError where the stage is not trained, CorruptDataError.
    """
    run.check_trained(j, j + 1)
    record = run.stages[j].record
    content = record.content.get(path.stem, "") if record else ""
    return load_tensors(path, content=content, remedy=remedy)[0]


def load_block(run: RunFolder, j: int) -> Block:
    """theta_j, in evaluation mode. Raises CorruptDataError."""
    block = new_block(run, j)
    path = run.stages[j].block
    load_modules(kept_tensors(run, j, path), path, block=block)
    return block.eval()


def read_encoding(run: RunFolder, j: int) -> EncodingRecord:
    """How x_{j+1} is encoded. Raises RefusedError where its scale was not taken yet, CorruptDataError."""
    path, config = run.stages[j].scale, run.config.for_stage(j)
    remedy = f"delete it and {run.command(f'train-stage --j {j}')}"
    record = read_sealed(path, EncodingRecord, remedy=remedy)
    if record is None and run.is_stand_in(j):
        known = sorted(scale.name.split(".")[1] for scale in path.parent.glob("scale.*.json"))
        raise RefusedError(
            f"stage {j}, accepted as it is, has a scale of x_{j + 1} as {', '.join(known) or 'nothing'}, and none as "
            f"{config.store.encoding}\nnext: --set stages.{j}.store.encoding={next(iter(known), 'ENCODING')}"
        )
    if record is None:
        raise RefusedError(
            f"the scale of x_{j + 1} as {config.store.encoding} is not known yet\n"
            f"next: {run.command(f'train-stage --j {j}')}, which takes it and trains nothing anew"
        )
    if record.encoding != config.store.encoding or len(record.scale) != run.shapes[j].out_channels:
        raise CorruptDataError(f"{path} is another's: {len(record.scale)} scales for {record.encoding}\nnext: {remedy}")
    stage = run.stages[j].record
    if stage is not None and record.block != stage.content.get("block"):
        raise CorruptDataError(f"{path} is whole, but not of the block of this stage\nnext: {remedy}")
    largest = torch.finfo(torch.float32).max
    if not all(0 < scale <= largest for scale in record.scale):
        raise CorruptDataError(f"{path} is damaged: a scale is not between 0 and {largest:.3g}\nnext: {remedy}")
    return record


def load_quantiser(run: RunFolder, j: int) -> Quantiser:
    """The quantiser of x_{j+1}. Raises like `read_encoding`."""
    quantiser = new_quantiser(run, j)
    quantiser.scale.copy_(torch.tensor(read_encoding(run, j).scale))
    return quantiser


def load_head(run: RunFolder, j: int) -> Head:
    """gamma_j, in evaluation mode. Raises CorruptDataError."""
    head = new_head(run, j)
    path = run.stages[j].head
    load_modules(kept_tensors(run, j, path), path, head=head)
    return head.eval()


def load_prefix(run: RunFolder, start: int, stop: int) -> Prefix:
    """The frozen blocks start..stop-1: x_start to x_stop."""
    stages = range(start, stop)
    return Prefix([load_block(run, i) for i in stages], [load_quantiser(run, i) for i in stages])


def load_network(run: RunFolder, j: int) -> nn.Sequential:
    """The network cut after stage j, with that stage's head, in evaluation mode: images to logits.

    Maps images (N, C, side, side) in 0..1, as large as x_0's, to (N, classes), whose names are `run.info.classes`. Its
    parts are `window`, which cuts the test-time window or pads to the canvas; `normalise`, by the mean and deviation
    of the training images; and `network`, a `cascade.Network`. It computes in float32; the stages were trained in the
    precision that their records name.

    Raises RefusedError where a stage is not trained, ConfigError where there is no stage j.
    """
    margin = run.config.augment.padding if takes_canvas(run, j) else -((run.info.side - run.side) // 2)
    side = canvas_side(run.config, run.info.side) if takes_canvas(run, j) else run.side
    parts: dict[str, nn.Module] = {
        "window": ImageWindow(run.info.side, side, margin),
        "normalise": Normalize(run.info.mean, run.info.std),
        "network": load_cut_network(run, j),
    }
    return nn.Sequential(OrderedDict(parts)).eval()


class ImageWindow(nn.Module):
    """The window of whole images that a network sees: (N, C, image_side, image_side) to (N, C, side, side).

    It begins `-margin` pixels inside the image's corner, or with `margin` black pixels before it.
    """

    def __init__(self, image_side: int, side: int, margin: int) -> None:
        super().__init__()
        self.image_side = image_side
        self.side = side
        self.margin = margin

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.image_side, self.image_side):
            raise ValueError(
                f"images of {'x'.join(map(str, images.shape[-2:]))} pixels; the network takes whole images of "
                f"{self.image_side}x{self.image_side}, as they were ingested"
            )
        behind = self.side - self.image_side - self.margin
        return F.pad(images, (self.margin, behind, self.margin, behind))


def load_cut_network(run: RunFolder, j: int) -> Network:
    """The same without padding and normalisation: x_0 as stage 0 reads it, or its canvas, to logits."""
    run.check_stage(j)
    run.check_trained(0, j + 1)
    prefix: nn.Module = load_prefix(run, 0, j)
    if takes_canvas(run, j):
        at = run.config.augment.last_anchor(j)
        window = CentreWindow(run.shapes[at].in_side)
        prefix = nn.Sequential(load_prefix(run, 0, at), window, load_prefix(run, at, j))
    return Network(prefix, load_block(run, j), load_head(run, j)).eval()


def takes_canvas(run: RunFolder, j: int) -> bool:
    """Whether stage j is trained and tested on windows of the features of whole canvases."""
    return j > 0 and run.config.augment.policy == "canvas"
