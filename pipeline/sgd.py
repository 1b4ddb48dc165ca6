"""SGD with momentum that holds two numbers for each weight, the weight and its momentum, and no third."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class SGD:
    """The rule of `torch.optim.SGD`, v <- momentum v + weight_decay w + g, w <- w - lr v, with v kept in `w.grad`.

    A step is `begin`, backward passes, whose gradients autograd adds to `w.grad`, and so to v, and `step`. With an
    optimiser that keeps its momentum apart, a stage of a wide network takes half as much again for its weights, and
    where a batch comes in micro-batches the sum of their gradients beside the next one.

    `zero_grad`, of a module or a parameter, must never be called: it would drop the momentum.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.lr = lr
        """Of the next step; the caller's to change."""
        self._momentum = momentum
        self._weight_decay = weight_decay
        self.reset()

    def over(self, parameters: Iterable[nn.Parameter]) -> "SGD":
        """The same rule over other parameters, from no momentum."""
        return SGD(parameters, lr=self.lr, momentum=self._momentum, weight_decay=self._weight_decay)

    @property
    def momentum(self) -> list[Tensor]:
        """v of each parameter, between steps."""
        held = [parameter.grad for parameter in self.parameters]
        return [v for v in held if v is not None]

    def reset(self) -> None:
        """Forget the momentum."""
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    @torch.no_grad()
    def begin(self) -> None:
        """Make v ready for the gradients of a batch."""
        assert len(self.momentum) == len(self.parameters), "a gradient was dropped, and the momentum with it"
        torch._foreach_mul_(self.momentum, self._momentum)
        if self._weight_decay:
            torch._foreach_add_(self.momentum, self.parameters, alpha=self._weight_decay)

    @torch.no_grad()
    def step(self) -> None:
        """Move the weights by v, to which the gradients were added."""
        torch._foreach_add_(self.parameters, self.momentum, alpha=-self.lr)
