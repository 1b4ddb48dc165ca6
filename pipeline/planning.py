"""`cascade plan`: the rates of this machine, the plan of a run folder, and what came of an earlier one."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pipeline.alternatives import Alternative
from pipeline.beforehand import check_device_memory, check_host_memory, check_parts
from pipeline.beside import beside_bytes, bytes_to_come, deletable
from pipeline.config import Config, budget_bytes
from pipeline.data_info import read_data_info
from pipeline.disk import free_bytes, run_bytes
from pipeline.footprint import would_be_written
from pipeline.host import host_budget
from pipeline.lock import Lock, lock_folder
from pipeline.measured import Measured, measured_stages
from pipeline.measured_steps import measure_steps
from pipeline.needed import is_needed, output_is_due
from pipeline.outline import Outline, read_outline
from pipeline.plan import Plan, StagePlan, keep_plan, make_plan, read_plan
from pipeline.progress import Reporter, size
from pipeline.rates import rates_of
from pipeline.runfolder import RunFolder
from pipeline.sampling import updated_samples
from pipeline.stepmemory import NO_STEPS
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
    others: Sequence[Alternative] | None = None,
) -> Plan:
    """Plan what of a run folder is still to do, up to stage `last` or all, and keep the plan there: with the stores of
    cache.keep or, where that is "auto", those of least time.

    `run` is the folder as it is seen where that is not by the config alone: with stages that stand in for others.
    The x_i of `without` are not to be stored. `host_bytes` of host memory are planned with, by default what the config
    allows. `others` are the plan's alternatives where they are not to be worked out, as those of one that was said.
    The machine is measured where that was not done yet, or `anew`, and then a real step of every stage too. With
    `images`, the plan is of a whole run on as many training images, and is not kept; a disk budget that the config
    states is then not held against what is free here, and what does not fit is planned all the same, and says how much
    disk it takes.

    Raises what `cascade run` would: ConfigError where a batch has no parts of machine.micro_batch, BudgetError where
    the images cannot be read within the host memory, DeviceMemoryError, and DiskError where not even they fit.
    """
    with lock_folder(folder, "planning", held=lock):
        if run is None and read_data_info(folder):
            run = RunFolder(folder, config)
        config = config if run is None else run.config
        # what steps took might refuse what they will no longer say, or be damaged
        outline = read_outline(folder, config, steps=NO_STEPS if anew else None)
        if last is not None:
            outline.check_stage(last)
        budgets = budgets_of(folder, config, host_bytes)
        stated = budget_bytes(config.budget.disk)
        if images is None and stated is not None and stated > budgets.disk:
            report.say(
                f"budget.disk is {size(stated)}, and this disk has no more than {size(budgets.disk)} for the run"
            )
        check_parts(outline)
        planned = len(outline.shapes) if last is None else last + 1
        seen = run if images is None else None
        stores, frees = stores_kept(outline, seen), config.cache.keep == "needed"
        due = [j for j in range(planned) if seen is None or seen.stages[j].record is None or output_is_due(seen, j)]
        if stores is not None:
            _check_kept(outline, seen, due, budgets.host, device)
        elif due:
            check_host_memory(outline, [0], lambda _: False, budgets.host, hold=batches_held(device))
        rates = rates_of(folder, outline, device, report, anew=anew)
        if anew:
            untrained = [j for j in range(planned) if seen is None or seen.stages[j].record is None]
            outline = measure_steps(folder, outline, untrained, device, report)
        if images is not None:
            budgets = budgets if stated is None else replace(budgets, disk=stated, block=0)
            outline = outline.of_images(images)
            budgets = replace(budgets, beside=bytes_to_come(outline, list(range(planned))))
            return make_plan(
                outline, rates, budgets, device=device, last=last, stores=stores, frees=frees, is_what_if=True
            )
        if run is None:
            budgets = replace(budgets, beside=bytes_to_come(outline, list(range(planned))))
        else:
            beside = beside_bytes(run, planned, stores=counted_stores(outline, stores, planned))
            budgets = replace(budgets, beside=beside, there=deletable(run, planned))
        earlier = read_plan(folder)
        kept = earlier.samples if earlier else []
        samples = updated_samples(run, device, kept) if run else []
        plan = make_plan(
            outline,
            rates,
            budgets,
            device=device,
            run=run,
            samples=samples,
            stores=stores,
            frees=frees,
            without=without,
            last=last,
            others=others,
        )
        return keep_plan(folder, plan, run)


def _check_kept(outline: Outline, run: RunFolder | None, due: list[int], host_bytes: int, device: torch.device) -> None:
    """Refuse what a run that keeps what the config names would be refused for in the stages that it has to do."""

    def there(i: int) -> bool:
        return outline.config.keeps(i) or (run is not None and run.is_stored(i))

    untrained = [j for j in due if run is None or run.stages[j].record is None]
    check_host_memory(outline, due, there, host_bytes, hold=batches_held(device))
    check_device_memory(outline, untrained, there, device)


def stores_kept(outline: Outline, run: RunFolder | None) -> list[int] | None:
    """Indices of the x_j, j >= 1, that there will be under the config's cache.keep; None where that is for a plan."""
    config = outline.config
    if config.cache.keep == "auto":
        return None
    possible = range(1, len(outline.shapes))
    if run is None:
        return [i for i in possible if config.keeps(i)]
    if config.cache.keep == "needed":
        return [i for i in possible if is_needed(run, i)]
    return [i for i in possible if run.is_stored(i) or (config.keeps(i) and would_be_written(run, i))]


def counted_stores(outline: Outline, stores: Collection[int] | None, planned: int) -> list[int]:
    """Indices of the x_j, j >= 1, that a plan of so many stages with these stores counts as such: those that it reads
    or writes, x_J too where the config keeps that."""
    last = len(outline.shapes)
    own = [*(stores or ()), *([last] if outline.config.keeps(last) else [])]
    return [i for i in own if i <= planned]


def budgets_of(folder: Path, config: Config, host_bytes: int | None = None) -> Budgets:
    """What the config allows; of the disk, where it says nothing, what is free and what the folder takes already."""
    stated = budget_bytes(config.budget.disk)
    disk, block = free_bytes(folder) + run_bytes(folder), os.statvfs(folder).f_frsize
    is_stated = stated is not None and stated <= disk
    host = host_budget(config) if host_bytes is None else host_bytes
    return Budgets(
        disk=stated if stated is not None and is_stated else disk, host=host, block=0 if is_stated else block
    )


@dataclass(frozen=True)
class Outcome:
    """What was predicted of a stage that is trained, and what came of it."""

    predicted: StagePlan | None
    """None where nothing was, under these settings and stores."""
    measured: Measured


def outcomes(run: RunFolder) -> list[Outcome]:
    """Every trained stage beside what the plan that is kept said of it; none where none is."""
    plan = read_plan(run.path)
    if plan is None:
        return []
    return [Outcome(plan.prediction(run.asked, one.j), one) for one in measured_stages(run)]
