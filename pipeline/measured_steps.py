"""`cascade plan --measure`: a real step of every stage's shape, in the parts that are chosen for it.

What it takes of the device beside what is predicted belongs to the prediction from then on; where that makes other
parts the choice, their step is run too.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.corrected import trained_digest
from pipeline.device import autocast_type, is_out_of_memory, machine_record
from pipeline.errors import CorruptDataError, DeviceMemoryError
from pipeline.measure import measured_peak
from pipeline.ondevice import choose_on_device, device_budget, limit_device
from pipeline.outline import Outline
from pipeline.peak import Work, predicted_step, stage_work
from pipeline.programs import training
from pipeline.progress import Reporter, size
from pipeline.stepmemory import NO_STEPS, MeasuredStep, MeasuredSteps, read_steps, write_steps

STEPS = 2
"""A first one, in which kernels are chosen, and one with its momentum there."""


def measure_steps(
    folder: Path, outline: Outline, stages: Iterable[int], device: torch.device, report: Reporter
) -> Outline:
    """The outline with what real steps of some stages take, measured anew and kept in the folder.

    Nothing is measured where nothing limits the device's memory, nor of a stage that does not fit: whoever asks for
    that one refuses it.
    """
    limit_device(outline.config, device)
    dtype, before = autocast_type(device, outline.config.network.precision), _read(folder)
    outline = replace(outline, steps=(before or NO_STEPS).without(machine_record(device, dtype)))
    seen: set[tuple[str, int]] = set()
    for j in stages:
        while (found := _chosen(outline, j, device, dtype)) is not None:
            work, micro_batch = found
            if (key := (trained_digest(work), micro_batch)) in seen:
                break
            seen.add(key)
            step = _step(work, micro_batch, outline, device)
            report.say(
                f"stage {j}: a real step on {micro_batch} samples took {size(step.measured_bytes)} of the device, "
                f"predicted {size(step.predicted_bytes)}"
            )
            outline = replace(outline, steps=outline.steps.with_step(step))
    if outline.steps != before:
        write_steps(folder, outline.steps)
    return outline


def _read(folder: Path) -> MeasuredSteps | None:
    """What the folder keeps; None where that is damaged, and is to be written anew."""
    try:
        return read_steps(folder)
    except CorruptDataError:
        return None


def _chosen(outline: Outline, j: int, device: torch.device, dtype: torch.dtype) -> tuple[Work, int] | None:
    """What stage j would train, and in which parts, by what is known so far; None where that is nobody's question."""
    anchor = outline.config.augment.last_anchor(j)
    try:
        chosen = choose_on_device(outline, j, anchor=anchor, device=device)
    except DeviceMemoryError:
        return None
    if chosen.peak_bytes is None:
        return None
    work = stage_work(outline, j, anchor=anchor, device_type=device.type, dtype=dtype, recompute=chosen.recompute)
    return work, chosen.micro_batch


def _step(work: Work, micro_batch: int, outline: Outline, device: torch.device) -> MeasuredStep:
    """Run it. One that the device has no room for has taken all that it was allowed."""
    predicted = predicted_step(work, micro_batch)
    try:
        measured = measured_peak(training(work.trained(), steps=STEPS), micro_batch, device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        measured = max(device_budget(outline.config, device) or 0, predicted)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return MeasuredStep(
        machine=machine_record(device, work.dtype),
        trained=trained_digest(work),
        micro_batch=micro_batch,
        predicted_bytes=predicted,
        measured_bytes=measured,
    )
