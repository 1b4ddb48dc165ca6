"""Host memory that reading takes, as arithmetic."""

from cache import BudgetError, ring_samples, sample_bytes
from pipeline.progress import size
from pipeline.runfolder import RunFolder

RUNS_AHEAD = 2
"""Runs in a window where nothing is mixed."""


def stored_sample_bytes(run: RunFolder, index: int) -> int:
    """Bytes of a sample of x_index as it is stored, before compression."""
    if index == 0:
        return int(run.info.channels * run.info.side**2)
    return sample_bytes(run.config.for_stage(index - 1).store.encoding, run.output_shape(index - 1))


def sequential_ring_bytes(run: RunFolder, index: int, *, hold: int) -> int:
    """Bytes of the ring for reading x_index in stored order, a run of samples at a time."""
    size = run.config.order.run
    return ring_samples(RUNS_AHEAD * size, size, hold=hold) * stored_sample_bytes(run, index)


def ring_bytes(run: RunFolder, j: int, index: int, micro_batch: int, *, hold: int) -> int:
    """Bytes of the ring for training stage j from x_index in parts of `micro_batch`, and for all that follows from it.

    `hold` is the number of batches that the device copies from at a time (`transfer.batches_held`).
    """
    samples = run.info.samples["train"]
    training = ring_samples(min(run.config.order.window, samples), min(micro_batch, samples), hold=hold)
    return max(training * stored_sample_bytes(run, index), sequential_ring_bytes(run, index, hold=hold))


def host_memory_error(run: RunFolder, index: int, needed: int) -> BudgetError:
    """What to say where reading x_index needs more than budget.host."""
    return BudgetError(
        f"reading x_{index} takes {size(needed)} of host memory, for two windows of order.window samples and at least "
        f"four of order.run, and budget.host is {_stated(run)}"
    )


def _stated(run: RunFolder) -> str:
    stated = run.config.budget.host
    return f"half of what is free, {size(run.host_bytes)}" if stated == "free" else str(stated)
