"""SGD whose momentum is the gradients' sum: torch's rule, with less held."""

import copy

import pytest
import torch
from torch import nn

from pipeline.sgd import SGD


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_steps_are_those_of_torch(weight_decay: float) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    theirs = copy.deepcopy(ours)
    sgd = SGD(ours.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay)
    reference = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay)
    for step in range(5):
        sgd.lr = reference.param_groups[0]["lr"] = 0.1 / (step + 1)
        x, y = torch.randn(12, 6, dtype=torch.float64), torch.arange(12) % 3
        sgd.begin()
        for part in (slice(0, 8), slice(8, 12)):
            (nn.functional.cross_entropy(ours(x[part]), y[part], reduction="sum") / 12).backward()  # type: ignore[no-untyped-call]
        sgd.step()
        reference.zero_grad()
        nn.functional.cross_entropy(theirs(x), y).backward()  # type: ignore[no-untyped-call]
        reference.step()
    torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()), rtol=1e-12, atol=1e-14)


def test_momentum_is_forgotten_on_reset() -> None:
    layer = nn.Linear(2, 2)
    sgd = SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
    sgd.begin()
    layer(torch.ones(3, 2)).sum().backward()
    sgd.step()
    sgd.reset()
    before = [parameter.clone() for parameter in layer.parameters()]
    sgd.begin()
    sgd.step()
    torch.testing.assert_close(list(layer.parameters()), before, rtol=0, atol=0)


def test_a_parameter_and_its_momentum_are_all_that_is_held() -> None:
    layer = nn.Linear(4, 4)
    sgd = SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    before = [parameter.data_ptr() for parameter in layer.parameters()], [v.data_ptr() for v in sgd.momentum]
    for _ in range(3):
        sgd.begin()
        layer(torch.ones(3, 4)).sum().backward()
        sgd.step()
    assert before == ([parameter.data_ptr() for parameter in layer.parameters()], [v.data_ptr() for v in sgd.momentum])


def test_momentum_that_was_dropped_is_missed() -> None:
    layer = nn.Linear(2, 2)
    sgd = SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
    layer.zero_grad()
    with pytest.raises(AssertionError, match="a gradient was dropped"):
        sgd.begin()
