"""What trains: of a stage theta_j, gamma_j and their SGD."""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from cascade import Block, Head, Outputs, keep_filters, training_forward
from pipeline.config import Train
from pipeline.device import place
from pipeline.errors import ConfigError, CorruptDataError
from pipeline.experiments.places import makes_again
from pipeline.problem import Problem, parts_of_blocks
from pipeline.runfolder import RunFolder
from pipeline.sgd import SGD
from pipeline.weights import load_modules, module_tensors

MOMENTUM = "momentum."
COMPILERS = ("c++", "g++", "clang++")


@dataclass
class Learner:
    """Block and head with their optimiser."""

    block: nn.Module
    """theta_j; end to end all blocks in sequence, of a probe none."""
    head: Head
    """gamma_j."""
    optimiser: SGD
    """Over the parameters of both; once filters are cut off, of the head."""
    forward: Callable[[Tensor], Outputs]
    """`logits`, with a similarity loss features too, compiled where that is asked for: what a training step calls."""
    remade: Callable[[nn.Module, Head], Callable[[Tensor], Outputs]] = nn.Sequential
    """Makes `forward` anew of a block and a head that are others."""
    label_smoothing: float = 0.0
    """Of the loss: the share of the target that goes to all classes alike."""
    similarity: float = 0.0
    """Of the loss: the share that is the similarity loss."""
    group: int = 0
    """Samples that this compares with each other; 0 is a whole micro-batch."""
    kept: list[int] = field(default_factory=list)
    """The filters that compression left of the block; none as long as it has them all."""

    def keep(self, kept: Sequence[int]) -> None:
        """Cut all filters but these off, and go on with the head alone: the block stays as it is from now on."""
        assert isinstance(self.block, Block), "a stage is compressed, and nothing else"
        self.kept = list(kept)
        keep_filters(self.block, self.head, kept)
        for parameter in self.block.parameters():
            parameter.grad = None
        self.block.requires_grad_(False).train(False)
        self.optimiser = self.optimiser.over(self.head.parameters())
        self.forward = self.remade(self.block, self.head)

    def tensors(self) -> dict[str, Tensor]:
        """Weights, buffers and momentum by name."""
        names = (MOMENTUM + name for name, _ in self._named_parameters())
        momentum = dict(zip(names, self.optimiser.momentum, strict=True))
        return {**module_tensors(block=self.block, head=self.head), **momentum}

    def restore(self, tensors: dict[str, Tensor], path: Path) -> None:
        """Put back what `tensors` gave, read from `path`. Raises CorruptDataError where it is of another network."""
        momentum = {name: tensor for name, tensor in tensors.items() if name.startswith(MOMENTUM)}
        weights = {name: tensor for name, tensor in tensors.items() if name not in momentum}
        load_modules(weights, path, block=self.block, head=self.head)
        for (name, _), v in zip(self._named_parameters(), self.optimiser.momentum, strict=True):
            saved = momentum.get(MOMENTUM + name)
            if saved is None or saved.shape != v.shape:
                what = "is not there" if saved is None else f"has shape {tuple(saved.shape)}"
                raise CorruptDataError(
                    f"{path} is not of this network: the momentum of {name} {what}\n"
                    f"next: delete the folder {path.parent} and {makes_again(path.parent)}"
                )
            v.copy_(saved)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.head.parameters()).device

    def train(self, mode: bool) -> None:
        """Switch both to training or evaluation mode; a block that was compressed stays in the latter."""
        self.block.train(mode and not self.kept)
        self.head.train(mode)

    def is_finite(self) -> bool:
        """Whether every weight, buffer and momentum is a number; one wait for the device."""
        floats = [tensor for tensor in self.tensors().values() if tensor.is_floating_point()]
        return bool(torch.stack([tensor.isfinite().all() for tensor in floats]).all())

    def not_finite(self) -> list[str]:
        """Names of the weights, buffers and momenta that are not."""
        named = {name: tensor for name, tensor in self.tensors().items() if tensor.is_floating_point()}
        return [name for name, tensor in named.items() if not tensor.isfinite().all()]

    def logits(self, x: Tensor) -> Tensor:
        """z_{j+1} of x_j: (N, C, H, W) to (N, classes)."""
        z: Tensor = self.head(self.block(x))
        return z

    def _named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        both = nn.ModuleDict({"block": self.block, "head": self.head})
        return ((name, parameter) for name, parameter in both.named_parameters() if parameter.requires_grad)


def make_learner(run: RunFolder, problem: Problem, device: torch.device, *, recompute: bool = False) -> Learner:
    """Block, head and optimiser with their initial weights, on the device.

    With `recompute`, a training step keeps only the inputs of their parts for the backward pass.
    """
    block, head = problem.modules(run)
    for module in (block, head):
        place(module, device)
    optimiser = make_optimiser([block, head], problem.train)

    def forward(block: nn.Module, head: Head) -> Callable[[Tensor], Outputs]:
        made = training_forward(parts_of_blocks(block), head, recompute=recompute)
        return compiled(made, device) if run.config.machine.compile else made

    return Learner(
        block,
        head,
        optimiser,
        forward(block, head),
        forward,
        label_smoothing=problem.train.label_smoothing,
        similarity=problem.head.similarity,
        group=run.config.network.bn_group,
    )


def make_optimiser(modules: Iterable[nn.Module], train: Train) -> SGD:
    """SGD over the parameters of modules."""
    return SGD(
        (parameter for module in modules for parameter in module.parameters()),
        lr=train.lr,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
    )


def compiled(network: Callable[[Tensor], Outputs], device: torch.device) -> Callable[[Tensor], Outputs]:
    """What torch.compile makes of a network. Raises ConfigError where a CPU has no compiler to make it with."""
    if device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise ConfigError(
            f"machine.compile = true takes a C++ compiler on a CPU, and none of {', '.join(COMPILERS)} is there\n"
            f"next: install one, or set machine.compile = false"
        )
    made: Callable[[Tensor], Outputs] = torch.compile(network)
    return made


def learning_rate(train: Train, epoch: int) -> float:
    """The schedule, restarted at each stage: lr times the factor at every drop so far, or half a cosine to 0."""
    if train.schedule == "cosine":
        return train.lr * (1 + math.cos(math.pi * epoch / train.epochs)) / 2
    return float(train.lr * train.lr_drop_factor ** (epoch // train.lr_drop_every))
