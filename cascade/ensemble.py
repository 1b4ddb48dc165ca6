"""The ensemble of all auxiliary heads, Z = sum_j 2^j z_j (Sec. 4)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Over = Literal["logits", "softmax"]


def ensemble(logits: Sequence[Tensor], *, over: Over = "logits") -> Tensor:
    """The weighted mean of the stages' outputs, (N, classes); `logits[j]`, (N, classes), weighs 2^j.

    `over` says what is averaged: the released code takes logits on CIFAR-10 and softmax on ImageNet.
    Normalised by the sum of the weights, which changes no prediction.
    """
    if not logits:
        raise ValueError("an ensemble needs the logits of at least one stage")
    outputs = torch.stack([z.float() for z in logits])
    if over == "softmax":
        outputs = outputs.softmax(dim=-1)
    weights = torch.ldexp(torch.ones(len(logits)), torch.arange(len(logits)) - len(logits)).to(outputs.device)
    return torch.einsum("j,jnc->nc", weights / weights.sum(), outputs)
