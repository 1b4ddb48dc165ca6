import pytest
import torch
from torch import Tensor, nn

from cascade import Head


def of_kind(head: Head, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in head.modules() if isinstance(module, kind)]


def quadrant_means(x: Tensor) -> Tensor:
    """(N, C, 2h, 2w) to (N, 4C), the mean of each quadrant, row by row."""
    h, w = x.shape[2] // 2, x.shape[3] // 2
    means = [x[:, :, a * h : (a + 1) * h, b * w : (b + 1) * w].mean((2, 3)) for a in range(2) for b in range(2)]
    return torch.stack(means, dim=2).flatten(1)


def test_head_of_k_1_is_an_average_and_a_linear_layer_alone() -> None:
    head = Head(3, k=1, width=99, classes=10, batch_norm=False)
    assert [name for name, _ in head.named_parameters()] == ["linear.weight", "linear.bias"]
    x = torch.randn(5, 3, 8, 8)
    expected = quadrant_means(x) @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head(x), expected)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_head_has_k_minus_1_convolutions_of_its_width(k: int) -> None:
    head = Head(3, k=k, width=7, classes=10)
    shapes = [tuple(conv.weight.shape) for conv in of_kind(head, nn.Conv2d) if isinstance(conv.weight, Tensor)]
    assert shapes == [(7, 3, 3, 3), (7, 7, 3, 3)][: k - 1]
    assert head.linear.in_features == 4 * (7 if k > 1 else 3)
    assert head(torch.randn(2, 3, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("k", [2, 3])
def test_every_hidden_layer_ends_in_a_relu(k: int) -> None:
    y = Head(3, k=k, width=7, classes=10).hidden(torch.randn(4, 3, 8, 8))
    assert (y >= 0).all()
    assert len(of_kind(Head(3, k=k, width=7, classes=10), nn.ReLU)) == k - 1


@pytest.mark.parametrize("batch_norm", [True, False])
def test_batch_norm_follows_each_convolution_and_the_average_or_is_nowhere(batch_norm: bool) -> None:
    head = Head(3, k=3, width=7, classes=10, batch_norm=batch_norm)
    assert len(of_kind(head, nn.BatchNorm2d)) == (3 if batch_norm else 0)
    assert all((conv.bias is None) == batch_norm for conv in of_kind(head, nn.Conv2d))


def test_second_batch_norm_normalises_the_averages() -> None:
    head = Head(3, k=2, width=7, classes=10)
    seen: list[Tensor] = []
    head.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(5 + 3 * torch.randn(64, 3, 8, 8))
    averages = seen[0].view(-1, 7, 4)
    torch.testing.assert_close(averages.mean((0, 2)), torch.zeros(7), atol=1e-4, rtol=0)
    torch.testing.assert_close(averages.var((0, 2), unbiased=False), torch.ones(7), atol=1e-2, rtol=0)


def test_pooled_head_averages_before_its_convolutions_and_has_the_same_parameters() -> None:
    full = Head(3, k=2, width=7, classes=10)
    pooled = Head(3, k=2, width=7, classes=10, pool=2)
    pooled.load_state_dict(full.state_dict())
    x = torch.randn(4, 3, 16, 16)
    assert torch.equal(pooled(x), full(nn.functional.avg_pool2d(x, 2)))
    assert not torch.allclose(pooled(x), full(x))


@pytest.mark.parametrize(("pool", "side"), [(1, 16), (2, 8), (4, 4)])
def test_pooled_head_holds_fewer_pixels(pool: int, side: int) -> None:
    head = Head(3, k=2, width=7, classes=10, pool=pool)
    shapes: list[torch.Size] = []
    head.hidden.register_forward_hook(lambda _module, _inputs, output: shapes.append(output.shape))
    head(torch.randn(2, 3, 16, 16))
    assert shapes == [(2, 7, side, side)]


@pytest.mark.parametrize("k", [1, 2])
def test_average_drops_no_pixel_of_an_odd_side(k: int) -> None:
    head = Head(3, k=k, width=7, classes=10, batch_norm=False)
    x = torch.randn(1, 3, 7, 7, requires_grad=True)
    head.average(x).sum().backward()
    assert x.grad is not None
    assert (x.grad > 0).all()


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_1_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"k = {k}: an auxiliary problem has at least one hidden layer"):
        Head(3, k=k, width=7, classes=10)


def test_floor_average_leaves_out_the_last_row_and_column_of_an_odd_side() -> None:
    adaptive = Head(3, k=1, width=7, classes=10, batch_norm=False)
    floor = Head(3, k=1, width=7, classes=10, batch_norm=False, average="floor")
    floor.load_state_dict(adaptive.state_dict())
    x = torch.randn(4, 3, 7, 7)
    torch.testing.assert_close(floor(x), adaptive(x[..., :6, :6]))
    assert not torch.allclose(floor(x), adaptive(x))
    assert torch.equal(nn.functional.avg_pool2d(x, 3), floor.average(x)), "which is the released code's average"
    torch.testing.assert_close(floor(x[..., :6, :6]), adaptive(x[..., :6, :6]))
    assert floor.average(x[..., :3, :3]).shape == (4, 3, 2, 2)


def test_floor_average_has_the_same_gradient_under_deterministic_algorithms() -> None:
    head, x = Head(3, k=1, width=7, classes=10, batch_norm=False, average="floor"), torch.randn(4, 3, 7, 7)
    usual = head(x)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(head(x), usual)
    finally:
        torch.use_deterministic_algorithms(False)


def test_head_without_the_second_batch_norm_has_those_after_its_convolutions_alone() -> None:
    head = Head(3, k=3, width=7, classes=10, pooled_norm=False)
    assert len(of_kind(head, nn.BatchNorm2d)) == 2
    assert isinstance(head.norm, nn.Identity)


@pytest.mark.parametrize("bias", [True, False])
def test_head_has_biases_where_it_is_told_to(bias: bool) -> None:
    for batch_norm in (True, False):
        head = Head(3, k=3, width=7, classes=10, batch_norm=batch_norm, bias=bias)
        assert all((conv.bias is not None) == bias for conv in of_kind(head, nn.Conv2d))
        assert head.linear.bias is not None
