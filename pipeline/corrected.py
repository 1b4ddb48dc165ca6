"""The predicted peak of what is trained, corrected by what a real step of it took."""

import hashlib
from functools import lru_cache

import torch

from pipeline.device import machine_record
from pipeline.peak import WORKSPACE_BYTES, Peak, Work, predicted_peak
from pipeline.stepmemory import MeasuredStep, MeasuredSteps


def corrected_peak(work: Work, micro_batch: int, steps: MeasuredSteps, device: torch.device) -> Peak:
    """The peak in micro-batches of this size, as far as steps of the same were run on this machine."""
    beside = (
        steps.beside(machine_record(device, work.dtype), trained_digest(work), micro_batch) if steps.steps else None
    )
    return predicted_peak(work, micro_batch, beside=WORKSPACE_BYTES if beside is None else beside)


def real_step(work: Work, micro_batch: int, steps: MeasuredSteps, device: torch.device) -> MeasuredStep | None:
    """The very step, where it was run."""
    return steps.of(machine_record(device, work.dtype), trained_digest(work), micro_batch) if steps.steps else None


@lru_cache(maxsize=256)
def trained_digest(work: Work) -> str:
    """Of what is trained: works of one digest take the same steps."""
    return hashlib.sha256(repr(work.trained()).encode()).hexdigest()[:16]
