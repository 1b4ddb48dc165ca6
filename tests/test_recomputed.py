"""A stage that recomputes its activations trains to the same bits, and its buffers move once a step."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cascade import Block, Head, recomputed, stage_parts


def stage(k: int, *, batch_norm: bool = True, pool: int = 1) -> tuple[Block, Head]:
    torch.manual_seed(0)
    block = Block(3, 8, downsample="invertible", batch_norm=batch_norm)
    return block, Head(8, k=k, width=16, classes=5, batch_norm=batch_norm, pool=pool)


def trained(
    block: nn.Module, head: nn.Module, forward: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Outputs, gradients and state after three steps."""
    both = nn.Sequential(block, head)
    optimiser = torch.optim.SGD(both.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        x = torch.randn(16, 3, 16, 16, generator=generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = forward(x)
        optimiser.zero_grad()
        torch.autograd.backward(logits.float().square().mean())
        optimiser.step()
    grads = {f"{name}.grad": p.grad for name, p in both.named_parameters() if p.grad is not None}
    return {**both.state_dict(), **grads, "logits": logits.detach()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("k", "batch_norm", "pool"), [(1, False, 1), (2, True, 2), (3, True, 1), (3, False, 1)])
def test_bits_are_those_of_a_stage_that_keeps_everything(
    k: int, batch_norm: bool, pool: int, dtype: torch.dtype
) -> None:
    block, head = stage(k, batch_norm=batch_norm, pool=pool)
    again, head_again = copy.deepcopy(block), copy.deepcopy(head)
    kept = trained(block, head, nn.Sequential(block, head), dtype)
    made_again = trained(again, head_again, recomputed(stage_parts([again], head_again)), dtype)
    assert kept.keys() == made_again.keys()
    assert all(torch.equal(kept[name], made_again[name]) for name in kept)


def test_running_statistics_move_once_a_step() -> None:
    block, head = stage(2)
    trained(block, head, recomputed(stage_parts([block], head)), torch.float32)
    counts = [m.num_batches_tracked for m in (*block.modules(), *head.modules()) if isinstance(m, nn.BatchNorm2d)]
    assert [int(count) for count in counts if count is not None] == [3, 3, 3]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_parts_of_a_stage_are_the_stage(k: int) -> None:
    block, head = stage(k, pool=2)
    x = torch.randn(4, 3, 16, 16)
    parts = stage_parts([block], head)
    assert len(parts) == max(k, 2)
    assert torch.equal(nn.Sequential(*parts)(x), head(block(x)))


def test_only_the_inputs_of_parts_are_kept() -> None:
    block, head = stage(3, pool=2)
    kept: list[tuple[int, ...]] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        recomputed(stage_parts([block], head))(torch.randn(4, 3, 16, 16))
    assert kept == [(4, 3, 16, 16), (4, 8, 4, 4), (4, 16, 4, 4)]  # pooled
