"""Initial weights: torch's default distribution, in the same bits on every machine and device.

torch draws alike everywhere, but scales what it drew in one rounding where the CPU has fused multiply-add and in two
elsewhere. Here each number is a hash, scaled by one multiplication in float64 and rounded to float32 once.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.draws import Purpose, draw, symmetric

AT_A_TIME = 2**16
"""Numbers that are drawn together: so they stay in the processor's cache."""


def draw_weights(seed: int, stage: int, block: nn.Module, head: nn.Module) -> None:
    """Set the weights of theta_j and gamma_j, on the host, to what (seed, stage) and their shapes alone determine.

    Weights and biases of convolutions and linear layers get U(-1/sqrt(n), 1/sqrt(n)), where n numbers go into an
    output; so does torch (kaiming_uniform_ with a = sqrt(5)). Batch norm keeps the ones and zeros it is made with.
    """
    for part, module in enumerate((block, head)):
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        for number, layer in enumerate(layers):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for which, parameter in enumerate((layer.weight, layer.bias)):
                if parameter is not None:
                    _fill(parameter, bound, seed, stage, part, number, which)


@torch.no_grad()
def make_identity(block: nn.Module) -> None:
    """Have the one convolution of a block, with as many channels out as in, give what it is given: exactly so, in any
    precision.
    """
    (conv,) = (module for module in block.modules() if isinstance(module, nn.Conv2d))
    nn.init.dirac_(conv.weight)
    if conv.bias is not None:
        conv.bias.zero_()


@torch.no_grad()
def _fill(parameter: Tensor, bound: float, seed: int, *indices: int) -> None:
    """Set element i of a parameter, in C order, to the draw (seed, *indices, i) between -bound and bound."""
    numbers = np.empty(parameter.numel(), np.float32)
    for first in range(0, len(numbers), AT_A_TIME):
        elements = np.arange(first, min(first + AT_A_TIME, len(numbers)))
        numbers[elements[0] : elements[-1] + 1] = bound * symmetric(draw(seed, Purpose.WEIGHTS, *indices, elements))
    parameter.copy_(torch.from_numpy(numbers).view(parameter.shape))
