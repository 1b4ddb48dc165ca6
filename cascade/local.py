"""What a training step computes of x_j: logits, and with a similarity loss the features that it compares."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from cascade.heads import Head
from cascade.recomputed import recomputed, stage_parts

Outputs = Tensor | tuple[Tensor, Tensor]
"""Logits (N, classes); of a head with `similarity` beside them features (N, D)."""


def training_forward(
    blocks: Sequence[nn.Module], head: Head, *, recompute: bool = False
) -> Callable[[Tensor], Outputs]:
    """Blocks in sequence, of a stage theta_j alone, and their head: x_j (N, C, H, W) to outputs.

    With `recompute`, only the inputs of their parts are kept for the backward pass.
    """
    if head.similarity is None:
        return recomputed(stage_parts(blocks, head)) if recompute else nn.Sequential(*blocks, head)

    parts, count = stage_parts(blocks, head), max(len(blocks), 1)
    trunk, rest, compared = (
        recomputed(own) if recompute else nn.Sequential(*own)
        for own in (parts[:count], parts[count:], [head.similarity])
    )

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        x = trunk(x)
        return rest(x), compared(x)

    return forward
