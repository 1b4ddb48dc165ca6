"""The network: blocks in sequence, cut after any stage and finished with that stage's head."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from cascade.blocks import Block
from cascade.heads import Average, Head
from cascade.quantiser import Quantiser
from cascade.shapes import StageShape


def make_block(shape: StageShape, *, batch_norm: bool, bn_group: int = 0, bias: bool | None = None) -> Block:
    """theta_j of a stage."""
    return Block(
        shape.in_channels,
        shape.out_channels,
        downsample=shape.downsample,
        batch_norm=batch_norm,
        bn_group=bn_group,
        bias=bias,
        residual=shape.residual,
    )


def make_head(
    shape: StageShape,
    *,
    k: int,
    classes: int,
    batch_norm: bool,
    pool: int = 1,
    bn_group: int = 0,
    bias: bool | None = None,
    average: Average = "adaptive",
    pooled_norm: bool = True,
    similarity: bool = False,
) -> Head:
    """gamma_j of a stage, on x_{j+1}."""
    return Head(
        shape.out_channels,
        k=k,
        width=shape.head_width,
        classes=classes,
        batch_norm=batch_norm,
        pool=pool,
        bn_group=bn_group,
        bias=bias,
        average=average,
        pooled_norm=pooled_norm,
        similarity=similarity,
    )


class Prefix(nn.Module):
    """Frozen blocks i..j-1, each followed by its quantiser: maps x_i to x_j, (N, C, H, W).

    Always in evaluation mode and without gradients, also inside a module that trains: nothing in a prefix ever
    moves. With no blocks it is the identity.
    """

    def __init__(self, blocks: Sequence[nn.Module], quantisers: Sequence[Quantiser]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.quantisers = nn.ModuleList(quantisers)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Prefix":
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        for block, quantise in zip(self.blocks, self.quantisers, strict=True):
            x = block(x)  # and its input can go
            x = quantise(x)
        return x


class CentreWindow(nn.Module):
    """The centre of features, (N, C, H, W) to (N, C, side, side): towards the top left where it lies between pixels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        top, left = ((side - self.side) // 2 for side in x.shape[-2:])
        return x[..., top : top + self.side, left : left + self.side]


class Network(nn.Module):
    """The network cut after stage j: prefix 0..j-1, block j and its head; images (N, C, H, W) to logits (N, classes).

    What a stage trains is `block` and `head`; the prefix is frozen. Where stage j was trained on windows of larger
    fields, the prefix has a `CentreWindow` in it.
    """

    def __init__(self, prefix: nn.Module, block: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.prefix = prefix
        self.block = block
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.block(self.prefix(x)))
        return logits


def parameter_count(modules: Iterable[nn.Module]) -> int:
    """Parameters of all modules, buffers not counted."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def count_network(shapes: Sequence[StageShape], *, k: int, classes: int, batch_norm: bool) -> int:
    """Parameters of all blocks and the last head, counted on the meta device, which allocates nothing."""
    with torch.device("meta"):
        blocks = [make_block(shape, batch_norm=batch_norm) for shape in shapes]
        head = make_head(shapes[-1], k=k, classes=classes, batch_norm=batch_norm)
    return parameter_count([*blocks, head])
