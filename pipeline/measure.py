"""The peak of a program's memory on a real device: what a prediction is held against, and corrected by."""

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pipeline.ledger import Program


def measured_peak(program: Program, samples: int, device: torch.device) -> int:
    """Bytes allocated at the peak of a program, beside what is allocated already.

    On CUDA as torch's allocator counts them, cuDNN's workspaces included; on a CPU from the record of every allocation
    that torch's profiler keeps. oneDNN's own memory, outside torch's allocator, is not in it.
    """
    if device.type != "cuda":
        return _recorded_peak(program, samples, device)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    program(device, samples, _unnamed)
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device)) - before


def _recorded_peak(program: Program, samples: int, device: torch.device) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it reports its own beginning and end
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        program(device, samples, _unnamed)
    results: Any = profiler.profiler.kineto_results
    events = sorted((event for event in results.events() if event.name() == "[memory]"), key=_time)
    alive = peak = 0
    for event in events:
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def _time(event: Any) -> int:
    return int(event.start_ns())


def _unnamed(name: str, tensors: Iterable[Tensor]) -> None:
    """A real device has no ledger."""
