"""Convolutions of wide weights: a slice at a time, and the same numbers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cascade import Convolution, convolution, recomputed

SIZES = convolution.SLICE, convolution.WIDE


@pytest.fixture(autouse=True)
def tiny_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a weight of 400 numbers is wide: three output channels at a time, of ten."""
    monkeypatch.setattr(convolution, "SLICE", 3 * 4 * 9)
    monkeypatch.setattr(convolution, "WIDE", 2 * 3 * 4 * 9)


def pair(*, bias: bool, stride: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Convolution, nn.Conv2d]:
    torch.manual_seed(0)
    ours = Convolution(4, 10, 3, padding=1, stride=stride, bias=bias, dtype=dtype)
    theirs = nn.Conv2d(4, 10, 3, padding=1, stride=stride, bias=bias, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def results(layer: nn.Conv2d, x: Tensor) -> list[Tensor]:
    """Output, and gradients of x and of the parameters, after two backward passes."""
    x = x.clone().requires_grad_()
    for _ in range(2):
        y = layer(x)
        (y.float().square().sum() / 7).backward()
    gradients = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    return [y.detach(), *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_wide_weight_gives_what_a_whole_one_gives(bias: bool, stride: int) -> None:
    ours, theirs = pair(bias=bias, stride=stride)
    x = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(results(ours, x), results(theirs, x), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_under_autocast_types_are_those_of_a_whole_one() -> None:
    ours, theirs = pair(bias=False, dtype=torch.float32)
    x = torch.randn(5, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = results(ours, x), results(theirs, x)
    assert [tensor.dtype for tensor in found] == [tensor.dtype for tensor in expected]
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_a_wide_weight_trains_where_a_stage_recomputes() -> None:
    ours, theirs = pair(bias=True)
    x = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    for forward in (recomputed([nn.Sequential(ours, nn.ReLU())]), nn.Sequential(theirs, nn.ReLU())):
        torch.autograd.backward(forward(x).sum())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-6)


class Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the numbers of every tensor that an operation makes, views not counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numels: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.numels += [t.numel() for t in tree_leaves(result) if isinstance(t, Tensor) and not t._is_view()]
        return result


def test_no_copy_of_a_wide_weight_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Convolution(64, 64, 3, padding=1, bias=False), torch.randn(1, 64, 2, 2)
    whole = layer.weight.numel()
    monkeypatch.setattr(convolution, "SLICE", whole // 8)
    layer.weight.grad = torch.zeros_like(layer.weight)
    with Made() as made, torch.autocast("cpu", torch.bfloat16):
        torch.autograd.backward(layer(x).sum())
    assert max(made.numels) == whole // 8


@pytest.mark.parametrize(("channels", "slices"), [(1900, 0), (2048, 3)])
def test_weights_are_wide_from_33_million_on(channels: int, slices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "SLICE", SIZES[0])
    monkeypatch.setattr(convolution, "WIDE", SIZES[1])
    taken, cut = list[slice](), convolution._slices

    def watched(weight: Tensor) -> list[slice]:
        taken.extend(cut(weight))
        return taken

    monkeypatch.setattr(convolution, "_slices", watched)
    with torch.no_grad():
        Convolution(channels, channels, 3, device="meta")(torch.empty(1, channels, 4, 4, device="meta"))
    assert len(taken) == slices


@pytest.mark.parametrize(
    "settings", [{"dilation": 2}, {"groups": 2}, {"padding": 1, "padding_mode": "reflect"}, {"padding": "same"}]
)
def test_what_slices_are_not_made_for_is_refused(settings: dict[str, Any]) -> None:
    name = list(settings)[-1]
    with pytest.raises(ValueError, match=rf"{name} = .*: expected .*next: take nn\.Conv2d"):
        Convolution(4, 10, 3, **settings)
