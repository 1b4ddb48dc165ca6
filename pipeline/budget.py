"""Host memory that reading takes, as arithmetic, and how much there is."""

import os
from pathlib import Path

from cache import BudgetError, ring_samples, sample_bytes
from pipeline.config import Config, budget_bytes
from pipeline.progress import size
from pipeline.runfolder import RunFolder

RUNS_AHEAD = 2
"""Runs in a window where nothing is mixed."""
SHARE_OF_FREE = 0.5
"""Of the host's free memory that reading takes where the config says no number: the rest is for all else."""
CGROUP = Path("/sys/fs/cgroup")


def host_budget(config: Config) -> int:
    """Bytes of host memory that reading may take."""
    stated = budget_bytes(config.budget.host)
    return int(SHARE_OF_FREE * free_host_bytes()) if stated is None else stated


def free_host_bytes() -> int:
    """Bytes that the host, and the control group that this process is in, still has."""
    free = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")] or free
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free.append(max(limit - used, 0))
    except (OSError, ValueError):  # no Linux, or no limit
        pass
    return min(free)


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
        f"four of order.run, and budget.host is {_stated(run.config)}"
    )


def _stated(config: Config) -> str:
    return (
        f"half of what is free, {size(host_budget(config))}"
        if config.budget.host == "free"
        else str(config.budget.host)
    )
