"""Trained stages, back from their files as plain modules."""

from collections import OrderedDict

from torch import nn
from torchvision.transforms import Normalize

from cascade import Network, Prefix, Quantiser, make_block, make_head
from pipeline.config import Config
from pipeline.runfolder import RunFolder
from pipeline.weights import load_modules, load_tensors


def new_block(run: RunFolder, j: int) -> nn.Module:
    """theta_j with fresh weights."""
    return make_block(run.shapes[j], batch_norm=run.config.network.batch_norm)


def new_head(run: RunFolder, j: int) -> nn.Module:
    """gamma_j with fresh weights."""
    config: Config = run.config.for_stage(j)
    return make_head(
        run.shapes[j],
        k=config.head.k,
        classes=run.classes,
        batch_norm=config.network.batch_norm,
        pool=config.head.pool,
    )


def new_quantiser(run: RunFolder, j: int) -> Quantiser:
    """The quantiser of x_{j+1}, not calibrated."""
    return Quantiser(run.config.for_stage(j).store.encoding, run.shapes[j].out_channels)


def load_block(run: RunFolder, j: int) -> tuple[nn.Module, Quantiser]:
    """theta_j and the quantiser of x_{j+1}, in evaluation mode. Raises CorruptDataError."""
    block, quantiser = new_block(run, j), new_quantiser(run, j)
    path = run.stages[j].block
    load_modules(load_tensors(path)[0], path, block=block, quantiser=quantiser)
    return block.eval(), quantiser


def load_head(run: RunFolder, j: int) -> nn.Module:
    """gamma_j, in evaluation mode. Raises CorruptDataError."""
    head = new_head(run, j)
    path = run.stages[j].head
    load_modules(load_tensors(path)[0], path, head=head)
    return head.eval()


def load_prefix(run: RunFolder, start: int, stop: int) -> Prefix:
    """The frozen blocks start..stop-1: x_start to x_stop."""
    pairs = [load_block(run, i) for i in range(start, stop)]
    return Prefix([block for block, _ in pairs], [quantiser for _, quantiser in pairs])


def load_network(run: RunFolder, j: int) -> nn.Sequential:
    """The network cut after stage j, with that stage's head, in evaluation mode: images to logits.

    Maps images (N, C, H, W) in 0..1 to (N, classes), whose names are `run.info.classes`. Its parts are `normalise`,
    by the mean and deviation of the training images, and `network`, a `cascade.Network`. It computes in float32; the
    stages were trained in the precision that their records name.

    Raises RefusedError where a stage is not trained, ConfigError where there is no stage j.
    """
    parts = {"normalise": Normalize(run.info.mean, run.info.std), "network": load_cut_network(run, j)}
    return nn.Sequential(OrderedDict(parts)).eval()


def load_cut_network(run: RunFolder, j: int) -> Network:
    """The same without the normalisation: x_0 as stage 0 reads it, to logits."""
    run.check_stage(j)
    run.check_trained(0, j + 1)
    return Network(load_prefix(run, 0, j), load_block(run, j)[0], load_head(run, j)).eval()
