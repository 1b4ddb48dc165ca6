"""Compression: the criterion, and cutting filters off."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cascade import Block, Head, StageShape, keep_filters, strongest, taylor_scores, thinned

CHANNELS = 6


def network(k: int, *, batch_norm: bool) -> tuple[Block, Head]:
    """A block of six filters and its head with random weights and running statistics, in evaluation mode."""
    torch.manual_seed(0)
    block = Block(3, CHANNELS, batch_norm=batch_norm)
    head = Head(CHANNELS, k=k, width=5, classes=4, batch_norm=batch_norm)
    for norm in [module for part in (block, head) for module in part.modules() if isinstance(module, nn.BatchNorm2d)]:
        for name, values in norm.state_dict().items():
            if name != "num_batches_tracked":
                nn.init.uniform_(values, 0.5, 2.0) if name == "running_var" else nn.init.normal_(values, 0.0, 0.5)
    return block.eval(), head.eval()


def silence(block: Block, dead: list[int]) -> None:
    """Make the output of these filters zero."""
    with torch.no_grad():
        block.conv.weight[dead] = 0.0
        for name, values in block.state_dict().items():
            if name in ("conv.bias", "norm.bias", "norm.running_mean"):
                values[dead] = 0.0


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_cutting_off_filters_whose_output_is_zero_changes_nothing(k: int, batch_norm: bool) -> None:
    block, head = network(k, batch_norm=batch_norm)
    silence(block, [0, 3])
    if k == 1 and batch_norm:  # which would make something of a zero
        for name in ("norm.bias", "norm.running_mean"):
            head.state_dict()[name][[0, 3]] = 0.0
    x = torch.randn(8, 3, 6, 6)
    before, whole = block(x), head(block(x))
    keep_filters(block, head, [1, 2, 4, 5])
    assert block(x).equal(before[:, [1, 2, 4, 5]])
    torch.testing.assert_close(head(block(x)), whole, rtol=1e-5, atol=1e-6)


def test_what_is_left_is_made_as_a_thinner_stage_is() -> None:
    (block, head), kept = network(2, batch_norm=True), [1, 4]
    keep_filters(block, head, kept)
    thin = Block(3, 2), Head(2, k=2, width=5, classes=4)
    for module, like in zip((block, head), thin, strict=True):
        assert {name: value.shape for name, value in module.state_dict().items()} == {
            name: value.shape for name, value in like.state_dict().items()
        }
    assert "3, 2, kernel_size" in repr(block.conv)
    assert "2, 5, kernel_size" in repr(head.hidden[0])


def test_linear_head_keeps_all_four_quadrants_of_a_filter() -> None:
    block, head = network(1, batch_norm=False)
    weight = head.linear.weight.detach().clone()
    keep_filters(block, head, [0, 5])
    assert head.linear.weight.equal(weight[:, [0, 1, 2, 3, 20, 21, 22, 23]])


def by_hand(x: Tensor, y: Tensor, head: Head) -> list[float]:
    """The criterion one example, one channel and one pixel at a time, with the gradient of each example alone."""
    totals = [0.0] * x.shape[1]
    for n in range(len(x)):
        one = x[n : n + 1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(head(one), y[n : n + 1]), one)
        for c in range(x.shape[1]):
            pixels = [(one[0, c, h, w] * gradient[0, c, h, w]).item() for h in range(4) for w in range(4)]
            totals[c] += abs(sum(pixels) / len(pixels))
    return totals


def test_scores_are_the_absolute_spatial_means_of_activation_times_gradient_summed_over_examples() -> None:
    _, head = network(2, batch_norm=True)
    x, y = torch.randn(5, CHANNELS, 4, 4).relu(), torch.tensor([0, 1, 2, 3, 1])
    scores = taylor_scores(x, y, head)
    assert scores.dtype == torch.float64
    assert scores.tolist() == pytest.approx(by_hand(x, y, head), rel=1e-4)


def test_scores_of_parts_of_a_batch_add_up_to_those_of_the_batch() -> None:
    _, head = network(2, batch_norm=True)
    x, y = torch.randn(16, CHANNELS, 4, 4).relu(), torch.arange(16) % 4
    parts = taylor_scores(x[:8], y[:8], head) + taylor_scores(x[8:], y[8:], head)
    torch.testing.assert_close(parts, taylor_scores(x, y, head), rtol=1e-5, atol=0)


def test_a_filter_that_is_silent_has_no_score_and_no_weight_gets_a_gradient() -> None:
    block, head = network(3, batch_norm=True)
    x, y = torch.randn(8, CHANNELS, 6, 6).abs(), torch.arange(8) % 4
    x[:, 2] = 0.0
    assert [index for index, score in enumerate(taylor_scores(x, y, head)) if score == 0] == [2]
    assert all(parameter.grad is None for parameter in [*block.parameters(), *head.parameters()])


def test_strongest_are_in_ascending_order_and_of_equal_ones_the_first() -> None:
    assert strongest(torch.tensor([1.0, 3.0, 2.0, 5.0, 2.0]), 3) == [1, 2, 3]
    assert strongest(torch.ones(CHANNELS), 2) == [0, 1]


def test_thinned_shapes_pass_what_is_left_on_and_remember_what_was_trained() -> None:
    shapes = [
        StageShape(j=j, in_channels=8 if j else 3, in_side=8, out_channels=8, out_side=8, downsample=None, head_width=4)
        for j in range(3)
    ]
    thin = thinned(shapes, [4, 8, 2])
    assert [(one.in_channels, one.cut_from, one.out_channels) for one in thin] == [(3, 8, 4), (4, None, 8), (8, 8, 2)]
    assert [one.before_cut.out_channels for one in thin] == [8, 8, 8]
    assert thinned(shapes, [8, 8, 8]) == shapes
