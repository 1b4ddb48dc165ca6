"""How much of the host's memory there is to read with."""

import os
from pathlib import Path

from pipeline.config import Config, budget_bytes

SHARE_OF_FREE = 0.5
"""Of the host's free memory that reading takes where the config says no number: the rest is for all else."""
CGROUP = Path("/sys/fs/cgroup")


def host_budget(config: Config) -> int:
    """Bytes of host memory that reading may take; of a "free" budget as there are now, which are others later."""
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
