"""A stage that keeps only the inputs of its parts, and computes all else once more in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174.

Less memory for about a third more arithmetic, and the same bits: what is computed again is computed in the same way,
and what a forward pass leaves behind in buffers, as batch norm's running statistics, it leaves once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cascade.heads import HIDDEN_LAYER, Head


def recomputed(parts: Sequence[nn.Module]) -> Callable[[Tensor], Tensor]:
    """The parts in sequence, of whose activations only each part's input is kept for the backward pass.

    A stage is `recomputed(stage_parts([block], head))`.
    """

    def forward(x: Tensor) -> Tensor:
        for part in parts:
            x = checkpoint(part, x, use_reentrant=False, context_fn=partial(_contexts, part))
        return x

    return forward


def stage_parts(blocks: Sequence[nn.Module], head: Head) -> list[nn.Module]:
    """Blocks, of a stage theta_j alone, and their head as parts in sequence: each block, the last one with the head's
    pooling, and each hidden layer of the head.

    The pooling goes with the last block, so that what is kept between the two is small. The classifier goes with the
    last hidden layer: what the two keep is alive together either way.
    """
    modules = list(head.hidden)
    layers = [modules[i : i + HIDDEN_LAYER] for i in range(0, len(modules), HIDDEN_LAYER)] or [[]]
    layers[-1] = [*layers[-1], _Classifier(head)]
    pooled = nn.Sequential(*blocks[-1:], head.pool)
    return [*blocks[:-1], pooled, *(nn.Sequential(*layer) for layer in layers)]


class _Classifier(nn.Module):
    """What follows a head's hidden layers: (N, C, H, W) to logits (N, classes)."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.norm, self.linear = head.norm, head.linear  # so that their buffers are found
        self._classify = head.classify

    def forward(self, x: Tensor) -> Tensor:
        return self._classify(x)


def _contexts(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What a part's forward pass, and its second one, run in."""
    return nullcontext(), _aside(part)


@contextmanager
def _aside(part: nn.Module) -> Iterator[None]:
    """Copies in place of a part's buffers, so that a second forward pass changes none of them."""
    owners = [module for module in part.modules() if module._buffers]
    originals = [module._buffers for module in owners]
    try:
        for module, buffers in zip(owners, originals, strict=True):
            module._buffers = {name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()}
        yield
    finally:
        for module, buffers in zip(owners, originals, strict=True):
            module._buffers = buffers
