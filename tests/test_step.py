"""A training step holds of its parts what it still needs."""

import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.checkpoint import Progress
from pipeline.device import choose_device
from pipeline.sgd import SGD
from pipeline.step import train_step

CPU = choose_device("cpu")


def step(forward: Callable[[Tensor], Tensor], head: nn.Module, parts: Iterator[tuple[Tensor, Tensor]]) -> None:
    optimiser = SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
    learner: Any = SimpleNamespace(forward=forward, optimiser=optimiser, label_smoothing=0.0)
    train_step(learner, parts, 24, torch.float32, Progress.fresh(CPU))


def test_nothing_of_a_part_is_there_when_the_next_is_made() -> None:
    head, seen, left = nn.Linear(4, 3), list[Callable[[], object]](), list[bool]()

    def watched(tensor: Tensor) -> Tensor:
        seen.append(weakref.ref(tensor))
        return tensor

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(3):
            left.append(any(reference() is not None for reference in seen))
            yield watched(torch.ones(8, 4)), watched(torch.zeros(8, dtype=torch.int64))

    step(lambda x: watched(head(x)), head, parts())
    assert (len(seen), left) == (9, [False] * 3)


def test_what_the_backward_pass_does_not_need_of_x_is_gone_before_it() -> None:
    head, inputs, there = nn.Linear(4, 3), list[Callable[[], object]](), list[bool]()

    def forward(x: Tensor) -> Tensor:
        inputs.append(weakref.ref(x))
        logits: Tensor = head(2 * x)  # of which autograd keeps the product
        logits.register_hook(lambda _: there.append(inputs[-1]() is not None))  # type: ignore[no-untyped-call]
        return logits

    step(forward, head, ((torch.ones(8, 4), torch.zeros(8, dtype=torch.int64)) for _ in range(3)))
    assert there == [False] * 3
