"""What a plan reckons with: of x_j, what the host's memory has room for beside what reads it."""

from pathlib import Path

import pytest
import torch

from cache import chunk_samples, ring_samples
from pipeline.device import choose_device
from pipeline.footprint import known_store
from pipeline.outline import Outline, read_outline
from pipeline.transfer import batches_held
from pipeline.workload import Budgets, _work, workload
from tests.configs import loaded
from tests.test_plan import MADE_UP, SETTINGS, made_up_rates

CPU, CUDA = choose_device("cpu"), torch.device("cuda")
DEVICES = [CPU, CUDA]
SAMPLE_BYTES = 8 * 8 * 8 * 2
"""Of x_1 in float16."""


def outline(folder: Path, *settings: str) -> Outline:
    return read_outline(folder, loaded(folder, *SETTINGS, *settings))


def ring_bytes(found: Outline, device: torch.device) -> int:
    """Of the ring that x_1 is read through, two windows of it; none is as long as the split."""
    order, batch_size = found.config.order, found.config.train.batch_size
    assert order.window < found.samples["train"]
    return ring_samples(order.window, batch_size, hold=batches_held(device)) * SAMPLE_BYTES


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("threads", [1, 3])
def test_of_x_j_stays_in_memory_what_the_ring_and_two_chunks_a_thread_leave_room_for(
    tmp_path: Path, device: torch.device, threads: int
) -> None:
    found = outline(tmp_path, "order.run=32", "order.window=128", f"machine.threads={threads}")
    chunks = 2 * threads * chunk_samples(32, SAMPLE_BYTES) * SAMPLE_BYTES
    half = found.raw_bytes(1) // 2
    budgets = Budgets(disk=10**12, host=ring_bytes(found, device) + chunks + half)
    known = [known_store(found, i, MADE_UP) for i in range(3)]
    work = _work(found, made_up_rates(3), budgets, known, None, device, ())
    assert work.kept_share[1] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_an_x_j_may_be_stored_if_the_ring_that_reads_it_has_room(tmp_path: Path, device: torch.device) -> None:
    found = outline(tmp_path, "order.run=32", "order.window=128")
    needed = ring_bytes(found, device)

    def may_store(host: int) -> bool:
        made = workload(found, made_up_rates(3), Budgets(disk=10**12, host=host), device=device)
        return bool(made.choices.may_store[1])

    assert may_store(needed)
    assert not may_store(needed - 1)
