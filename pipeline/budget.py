"""Host memory that reading takes, as arithmetic."""

from cache import BudgetError, ring_samples
from pipeline.config import Config
from pipeline.outline import Outline
from pipeline.progress import size

RUNS_AHEAD = 2
"""Runs in a window where nothing is mixed."""


def sequential_ring_bytes(outline: Outline, index: int, *, hold: int) -> int:
    """Bytes of the ring for reading x_index in stored order, a run of samples at a time."""
    size = outline.config.order.run
    return ring_samples(RUNS_AHEAD * size, size, hold=hold) * outline.sample_bytes(index)


def ring_bytes(outline: Outline, index: int, micro_batch: int, *, hold: int) -> int:
    """Bytes of the ring for training a stage from x_index in parts of `micro_batch`, and for all that follows from it.

    `hold` is the number of batches that the device copies from at a time (`transfer.batches_held`).
    """
    samples = outline.samples["train"]
    training = ring_samples(min(outline.config.order.window, samples), min(micro_batch, samples), hold=hold)
    return max(training * outline.sample_bytes(index), sequential_ring_bytes(outline, index, hold=hold))


def host_memory_error(config: Config, index: int, needed: int, allowed: int) -> BudgetError:
    """What to say where reading x_index needs more than budget.host."""
    stated = config.budget.host
    limit = f"half of what is free, {size(allowed)}" if stated == "free" else str(stated)
    return BudgetError(
        f"reading x_{index} takes {size(needed)} of host memory, for two windows of order.window samples and at least "
        f"four of order.run, and budget.host is {limit}"
    )
