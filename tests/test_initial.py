"""Initial weights: torch's default distribution, as a function of seed, stage and shape."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cascade import Block, Head
from pipeline.draws import Purpose, draw
from pipeline.initial import AT_A_TIME, draw_weights


def made(*, batch_norm: bool = True, width: int = 64) -> nn.ModuleDict:
    """A block that samples down, and a head of three layers and a classifier."""
    block = Block(16, width, downsample="invertible", batch_norm=batch_norm)
    head = Head(width, k=3, width=96, classes=50, batch_norm=batch_norm)
    return nn.ModuleDict({"block": block, "head": head})


def drawn(seed: int = 0, stage: int = 0, *, batch_norm: bool = True, width: int = 64) -> dict[str, Tensor]:
    modules = made(batch_norm=batch_norm, width=width)
    draw_weights(seed, stage, modules["block"], modules["head"])
    return dict(modules.state_dict())


@pytest.mark.parametrize("batch_norm", [True, False])
def test_every_tensor_has_the_range_mean_and_deviation_that_torch_gives_it(batch_norm: bool) -> None:
    ours, theirs = drawn(batch_norm=batch_norm), made(batch_norm=batch_norm).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        if "norm" in name or not tensor.is_floating_point() or "hidden.1." in name or "hidden.4." in name:
            assert torch.equal(tensor, theirs[name]), "batch norm begins with ones and zeros"
            continue
        bound = 1 / math.sqrt(ours[name.replace(".bias", ".weight")][0].numel())
        assert theirs[name].abs().max() <= bound * (1 + 1e-6)
        assert tensor.abs().max() <= bound
        sigma = bound / math.sqrt(3 * tensor.numel())  # of the mean; the deviation's is 0.45 of that
        assert abs(tensor.mean()) < 5 * sigma
        if tensor.numel() > 1000:
            assert abs(tensor.std() - bound / math.sqrt(3)) < 5 * sigma
            assert abs(tensor.std() - theirs[name].std()) < 5 * sigma
            deciles = torch.histc(tensor / bound, 10, -1, 1) / tensor.numel()
            assert (deciles - 0.1).abs().max() < 5 * math.sqrt(0.09 / tensor.numel())


def test_a_number_is_its_draw_scaled_once_and_rounded_once() -> None:
    weight = drawn(seed=3, stage=2)["head.hidden.3.weight"].flatten()
    for i in (0, 1, AT_A_TIME - 1, AT_A_TIME, len(weight) - 1):
        number = int(draw(3, Purpose.WEIGHTS, 2, 1, 1, 0, i)[0]) >> 40
        assert weight[i] == np.float32((2 * number + 1 - 2**24) / 2**24 * (1 / math.sqrt(96 * 9)))


def test_seed_and_stage_and_place_each_give_other_numbers() -> None:
    tensors = [
        tensor.flatten()[:20]
        for seed, stage in ((0, 0), (0, 1), (1, 0), (1, 1))
        for name, tensor in drawn(seed, stage, batch_norm=False).items()
    ]
    signs = np.sign(np.stack([tensor.numpy() for tensor in tensors]))
    alike = np.abs(signs @ signs.T / 20 - np.eye(len(signs)))
    assert alike.max() < 1, "no two parameters have the signs of one another"
    for one, other in zip(drawn(1, 2).values(), drawn(1, 2).values(), strict=True):
        assert torch.equal(one, other)


def test_torchs_generator_has_no_say() -> None:
    torch.manual_seed(1)
    one = drawn()
    torch.manual_seed(2)
    assert all(torch.equal(tensor, one[name]) for name, tensor in drawn().items())


def test_neighbouring_numbers_and_neighbouring_layers_do_not_correlate() -> None:
    tensors = drawn()
    one, other = (tensors[f"head.hidden.{number}.weight"].flatten()[:50_000].double() for number in (0, 3))
    pairs = [(one, other), (one[1:], one[:-1]), (one[576:], one[:-576])]
    for a, b in pairs:
        correlation = torch.corrcoef(torch.stack([a, b]))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(len(a))
