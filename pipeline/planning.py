"""`cascade plan`: the rates of this machine, the plan of a run folder, and what came of an earlier one."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cache import chunk_samples, packed_share
from pipeline.beforehand import check_host_memory, check_parts
from pipeline.calibration import SAMPLES
from pipeline.config import Config, budget_bytes
from pipeline.data_info import read_data_info
from pipeline.disk import folder_bytes, free_bytes
from pipeline.feed import Feed
from pipeline.host import host_budget
from pipeline.lock import Lock, lock_folder
from pipeline.metrics import read_metrics
from pipeline.outline import read_outline
from pipeline.plan import Plan, keep_plan, make_plan, read_plan
from pipeline.progress import Reporter
from pipeline.rates import rates_of
from pipeline.runfolder import RunFolder
from pipeline.transfer import batches_held
from pipeline.workload import CODED, Budgets
from pipeline.writeback import Output


def plan_run(
    folder: Path,
    config: Config,
    device: torch.device,
    report: Reporter,
    *,
    anew: bool = False,
    images: int | None = None,
    last: int | None = None,
    host_bytes: int | None = None,
    lock: Lock | None = None,
) -> Plan:
    """Plan what of a run folder is still to do, up to stage `last` or all, and keep the plan there.

    `host_bytes` of host memory are planned with, by default what the config allows.
    The machine is measured where that was not done yet, or `anew`. With `images`, the plan is of a whole run on as many
    training images, and is not kept; a disk budget that the config states is then not held against what is free here.

    Raises what `cascade run` would: ConfigError where a batch has no parts of machine.micro_batch, BudgetError where
    the images cannot be read within the host memory, DeviceMemoryError, and DiskError where not even they fit.
    """
    with lock_folder(folder, "planning", held=lock):
        outline = read_outline(folder, config)
        if last is not None:
            outline.check_stage(last)
        run = RunFolder(folder, config) if read_data_info(folder) else None
        budgets = budgets_of(folder, config, host_bytes)
        check_parts(outline)
        check_host_memory(outline, [0], lambda _: False, budgets.host, hold=batches_held(device))
        rates = rates_of(folder, outline, device, report, anew=anew)
        if images is not None:
            stated = budget_bytes(config.budget.disk)
            budgets = budgets if stated is None else replace(budgets, disk=stated)
            return make_plan(outline.of_images(images), rates, budgets, device=device, last=last)
        shares = encoded_shares(run, device) if run else {}
        plan = make_plan(outline, rates, budgets, device=device, run=run, shares=shares, last=last)
        return keep_plan(folder, plan, run)


def budgets_of(folder: Path, config: Config, host_bytes: int | None = None) -> Budgets:
    """What the config allows; of the disk, where it says nothing, what is free and what the folder takes already.

    The device's is for stored x_i, and of those none is reckoned with: what a stage leaves is known when it begins.
    """
    stated = budget_bytes(config.budget.disk)
    disk = free_bytes(folder) + folder_bytes(folder)
    host = host_budget(config) if host_bytes is None else host_bytes
    return Budgets(disk=disk if stated is None else min(stated, disk), host=host, device=0)


@dataclass(frozen=True)
class Outcome:
    """What was predicted of a stage that is trained, and what came of it."""

    j: int
    predicted_seconds: float
    """Of its epochs with their validation."""
    seconds: float
    predicted_images_per_second: float | None
    images_per_second: float
    """Trained, over all epochs."""
    predicted_bytes: int
    """Of x_{j+1}, if it was to be stored; before compression a bound."""
    stored_bytes: int
    predicted_peak_bytes: int | None
    """Of the device; None where nothing limited it."""
    peak_bytes: int
    """On a CPU, of the process."""


def outcomes(run: RunFolder) -> list[Outcome]:
    """Every trained stage beside what the plan that is kept said of it; none where none is."""
    plan, found = read_plan(run.path), []
    for stage, planned in zip(run.stages, plan.stages if plan else (), strict=False):
        if (record := stage.record) is None:
            continue
        rates = [1 / epoch.images_per_second for epoch in read_metrics(stage)]
        found.append(
            Outcome(
                j=stage.j,
                predicted_seconds=planned.training_seconds,
                seconds=record.seconds,
                predicted_images_per_second=planned.images_per_second,
                images_per_second=len(rates) / sum(rates),
                predicted_bytes=planned.written_bytes,
                stored_bytes=sum(run.stored_bytes(stage.j + 1, split) for split in run.splits),
                predicted_peak_bytes=planned.device_peak_bytes,
                peak_bytes=record.peak_memory_bytes,
            )
        )
    return found


def encoded_shares(run: RunFolder, device: torch.device) -> dict[int, float]:
    """What compression leaves of every x_i that could be written now, measured on some training samples."""
    if all(stage.record is not None for stage in run.stages):
        return {}
    return {
        stage.j + 1: encoded_share(run, stage.j, device)
        for stage in run.stages
        if stage.record is not None
        and stage.scale.exists()
        and not run.is_stored(stage.j + 1)
        and run.config.augment.last_anchor(stage.j + 1) > stage.j
        and run.config.for_stage(stage.j).store.codec != "none"
    }


def encoded_share(run: RunFolder, j: int, device: torch.device) -> float:
    """What compression leaves of x_{j+1}, by the chunk, over the first of its training samples."""
    config = run.config.for_stage(j).store
    output = Output(run, j, Feed(run, j, device, streamed=True, sequential_only=True))
    numbers = np.concatenate(list(output.runs("train", stop=SAMPLES)))
    chunk = min(chunk_samples(run.config.order.run, numbers[0].nbytes), len(numbers))
    codec = CODED if config.codec == "auto" else config.codec
    whole = range(0, len(numbers) - chunk + 1, chunk)
    return float(np.mean([packed_share(numbers[first : first + chunk], codec) for first in whole]))
