"""Storages are counted once, as long as they live, and what a program takes follows from two runs of it."""

import pytest
import torch
from torch import Tensor

from pipeline.ledger import SIZES, UNNAMED, Ledger, Name, Program, memory_of


def chain(device: torch.device, samples: int, name: Name) -> None:
    """A constant of 4 KB, and at its worst moment two tensors of 400 bytes a sample beside it."""
    weight = torch.ones(1000, device=device)
    name("parameters", [weight])
    x = torch.ones(samples, 100, device=device)
    for _ in range(3):
        x = x + 1
    x.view(-1)[1:].mul_(2)


def test_a_storage_counts_while_anything_refers_to_it() -> None:
    with Ledger() as ledger:
        x = torch.zeros(256)
        view = x.view(16, 16)[1:]
        del x
        assert ledger.moments == [(0, 1)]
        view.add_(1)
        del view
    assert ledger.moments == [(0, 1), (0, -1)]
    assert ledger.nbytes == [1024]
    assert ledger.names == [UNNAMED]


def test_what_lives_on_after_the_record_is_closed_is_not_said_to_go() -> None:
    with Ledger() as ledger:
        x = torch.zeros(256)
    del x
    assert ledger.moments == [(0, 1)]


@pytest.mark.parametrize("samples", [1, 7, *SIZES, 1000])
def test_peak_is_known_for_batches_that_were_not_run(samples: int) -> None:
    memory = memory_of(lambda: chain)
    rounded = -(-400 * samples // 512) * 512
    assert memory.peak(samples) == 4096 + 2 * rounded
    assert memory.peak(samples, without=["parameters"]) == 2 * rounded
    assert memory.parts(samples) == {"parameters": 4096, UNNAMED: 2 * rounded}
    assert memory.total("parameters") == 4096


def test_a_program_whose_steps_depend_on_its_batch_is_refused() -> None:
    def grouped(device: torch.device, samples: int, name: Name) -> None:
        torch.cat([torch.ones(32, 8, device=device) for _ in range(samples // 32)])

    with pytest.raises(ValueError, match="allocates in another order when its batch is larger"):
        memory_of(lambda: grouped)


def test_storages_that_go_together_may_go_in_any_order() -> None:
    def program(order: list[int]) -> Program:
        def run(device: torch.device, samples: int, name: Name) -> None:
            kept: list[Tensor | None] = [torch.ones(samples, device=device) for _ in order]
            for index in order:
                kept[index] = None

        return run

    orders = iter([[0, 1, 2], [2, 0, 1]])
    assert memory_of(lambda: program(next(orders))).peak(128) == 3 * 512
