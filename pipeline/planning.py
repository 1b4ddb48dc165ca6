"""`cascade plan`: the rates of this machine, the plan of a run folder, and what came of an earlier one."""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pipeline.beforehand import check_host_memory, check_parts
from pipeline.beside import beside_bytes, bytes_to_come, deletable
from pipeline.config import Config, budget_bytes
from pipeline.data_info import read_data_info
from pipeline.disk import folder_bytes, free_bytes
from pipeline.host import host_budget
from pipeline.lock import Lock, lock_folder
from pipeline.metrics import read_metrics
from pipeline.outline import read_outline
from pipeline.plan import Plan, keep_plan, make_plan, read_plan
from pipeline.progress import Reporter
from pipeline.rates import rates_of
from pipeline.runfolder import RunFolder
from pipeline.sampling import updated_samples
from pipeline.transfer import batches_held
from pipeline.workload import Budgets


def plan_run(
    folder: Path,
    config: Config,
    device: torch.device,
    report: Reporter,
    *,
    anew: bool = False,
    images: int | None = None,
    last: int | None = None,
    without: Collection[int] = (),
    host_bytes: int | None = None,
    run: RunFolder | None = None,
    lock: Lock | None = None,
) -> Plan:
    """Plan what of a run folder is still to do, up to stage `last` or all, and keep the plan there.

    `run` is the folder as it is seen where that is not by the config alone: with stages that stand in for others.
    The x_i of `without` are not to be stored. `host_bytes` of host memory are planned with, by default what the config
    allows.
    The machine is measured where that was not done yet, or `anew`. With `images`, the plan is of a whole run on as many
    training images, and is not kept; a disk budget that the config states is then not held against what is free here.

    Raises what `cascade run` would: ConfigError where a batch has no parts of machine.micro_batch, BudgetError where
    the images cannot be read within the host memory, DeviceMemoryError, and DiskError where not even they fit.
    """
    with lock_folder(folder, "planning", held=lock):
        if run is None and read_data_info(folder):
            run = RunFolder(folder, config)
        config = config if run is None else run.config
        outline = read_outline(folder, config)
        if last is not None:
            outline.check_stage(last)
        budgets = budgets_of(folder, config, host_bytes)
        check_parts(outline)
        check_host_memory(outline, [0], lambda _: False, budgets.host, hold=batches_held(device))
        rates = rates_of(folder, outline, device, report, anew=anew)
        planned = len(outline.shapes) if last is None else last + 1
        if images is not None:
            stated = budget_bytes(config.budget.disk)
            budgets = budgets if stated is None else replace(budgets, disk=stated)
            outline = outline.of_images(images)
            budgets = replace(budgets, beside=bytes_to_come(outline, list(range(planned))))
            return make_plan(outline, rates, budgets, device=device, last=last)
        if run is None:
            budgets = replace(budgets, beside=bytes_to_come(outline, list(range(planned))))
        else:
            budgets = replace(budgets, beside=beside_bytes(run, planned), there=deletable(run, planned))
        earlier = read_plan(folder)
        kept = earlier.samples if earlier else []
        samples = updated_samples(run, device, report, kept) if run else []
        plan = make_plan(outline, rates, budgets, device=device, run=run, samples=samples, without=without, last=last)
        return keep_plan(folder, plan, run)


def budgets_of(folder: Path, config: Config, host_bytes: int | None = None) -> Budgets:
    """What the config allows; of the disk, where it says nothing, what is free and what the folder takes already."""
    stated = budget_bytes(config.budget.disk)
    disk, block = free_bytes(folder) + folder_bytes(folder), os.statvfs(folder).f_frsize
    is_stated = stated is not None and stated <= disk
    host = host_budget(config) if host_bytes is None else host_bytes
    return Budgets(
        disk=stated if stated is not None and is_stated else disk, host=host, block=0 if is_stated else block
    )


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
