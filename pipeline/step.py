"""A step of SGD on a batch of x_j that comes in parts."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cascade import Outputs, similarity_loss
from pipeline.checkpoint import Progress
from pipeline.device import StepOutOfMemory, autocast, is_out_of_memory


class Optimiser(Protocol):
    """A step is `begin`, the backward passes of a batch, `step`."""

    def begin(self) -> None: ...

    def step(self) -> None: ...


class Trainable(Protocol):
    """A network with its optimiser, as `learner.Learner`."""

    @property
    def forward(self) -> Callable[[Tensor], Outputs]:
        """(N, C, H, W) to logits (N, classes), with a similarity loss to features too."""

    @property
    def optimiser(self) -> Optimiser: ...

    @property
    def label_smoothing(self) -> float:
        """Share of the target that goes to all classes alike."""

    @property
    def similarity(self) -> float:
        """Share of the loss that is the similarity loss, the rest being cross entropy."""

    @property
    def group(self) -> int:
        """Samples whose features are compared with each other; 0 is a whole part."""


def train_step(
    learner: Trainable, parts: Iterable[tuple[Tensor, Tensor]], samples: int, dtype: torch.dtype, progress: Progress
) -> None:
    """One step of SGD on a batch of x_j, whose `samples` come in parts. The host does not wait for the device."""
    learner.optimiser.begin()
    for x, y in parts:
        with autocast(x.device, dtype):
            outputs = learner.forward(x)
            del x  # what the backward pass takes of it is kept by that
            logits, loss = loss_of(learner, outputs, y)
        torch.autograd.backward(loss / samples)
        progress.loss += loss.detach()
        progress.correct += (logits.detach().argmax(1) == y).sum()
        del y, outputs, logits, loss  # before the next part is made
    learner.optimiser.step()
    progress.seen += samples
    progress.sound.add_(progress.loss.isfinite(), alpha=samples)
    progress.consumed += samples


def loss_of(learner: Trainable, outputs: Outputs, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the loss that is trained on, summed over samples."""
    logits, features = outputs if isinstance(outputs, tuple) else (outputs, None)
    loss = cross_entropy(logits.float(), y, reduction="sum", label_smoothing=learner.label_smoothing)
    if features is not None:
        unlike = similarity_loss(features, y, classes=logits.shape[1], group=learner.group)
        loss = (1 - learner.similarity) * loss + learner.similarity * unlike
    return logits, loss


@contextmanager
def naming_step() -> Iterator[None]:
    """Around training steps: raises StepOutOfMemory where there is no memory for one."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise StepOutOfMemory(str(error)) from error
        raise
