"""Whole commands: ingest with its summary, and a range of stages in turn."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

import torch

from pipeline.acceptance import describe_accepted
from pipeline.bad_images import SKIPPED
from pipeline.beforehand import check_device_memory, check_host_memory, check_memory, check_parts
from pipeline.config import Config, budget_bytes
from pipeline.data_info import X_0, read_data_info
from pipeline.device import choose_device
from pipeline.disk import described_room
from pipeline.errors import ConfigError, DiskError, NoRoomError, Stopped
from pipeline.following import Following
from pipeline.host import host_budget
from pipeline.ingest import ingest
from pipeline.keeping import check_kept
from pipeline.lock import Lock, check_writable, lock_folder
from pipeline.needed import free_stores, output_is_due
from pipeline.ondevice import limit_device
from pipeline.outline import read_outline
from pipeline.owner import check_ingests_itself
from pipeline.plan import as_planned
from pipeline.planning import plan_run
from pipeline.progress import Reporter, size
from pipeline.room import check_first_output, kept_bytes, say_over_budget
from pipeline.runfolder import RunFolder, store_bytes
from pipeline.stopping import never
from pipeline.training import is_due, train_stage
from pipeline.transfer import batches_held


def ingest_data(
    config: Config,
    run_folder: Path,
    report: Reporter,
    *,
    lock: Lock | None = None,
    skip_bad: bool = False,
    should_stop: Callable[[], bool] = never,
) -> None:
    """Write x_0 unless it is there, with `skip_bad` without its damaged images, and say what it holds.

    The folder is held for it, if not by `lock` already.
    """
    fresh = read_data_info(run_folder) is None
    with lock_folder(run_folder, "ingesting the images", held=lock):
        info = ingest(config, run_folder, report, skip_bad=skip_bad, should_stop=should_stop)
    images = ", ".join(f"{count:,} {split}" for split, count in info.samples.items())
    stored = sum(store_bytes(run_folder / X_0 / split) for split in info.samples)
    report.say(
        f"x_0: {images} images of {info.channels}x{info.side}x{info.side}, {len(info.classes)} classes, "
        f"{size(stored)} {'ingested' if fresh else 'there already, not read again,'} from {info.data.source}"
    )
    if info.skipped:
        counts = ", ".join(f"{count:,} {split}" for split, count in info.skipped.items())
        report.say(f"left out of it: {counts} images that are bad, listed in {run_folder / X_0 / SKIPPED}")
    if 0 < config.augment.crop < info.side:
        report.say(f"stages see windows of {config.augment.crop}x{config.augment.crop} of them (augment.crop)")


def check_before_ingest(
    config: Config, run_folder: Path, last: int | None, device_name: str | None, report: Reporter, *, lock: Lock
) -> None:
    """Refuse what stages up to `last` would be refused for, before the images are read; nothing where they are there.

    Raises ConfigError, BudgetError or DeviceMemoryError.
    """
    if read_data_info(run_folder) is not None:
        return
    check_ingests_itself(run_folder)
    machine = config.machine
    device = choose_device(machine.device if device_name is None else device_name, deterministic=machine.deterministic)
    if config.cache.keep == "auto":
        with suppress(DiskError):  # the ingest knows better what compression leaves of the images, and refuses too
            plan_run(run_folder, config, device, report, last=last, lock=lock, others=())
        return
    check_kept(run_folder, config, device, last=last)
    outline = read_outline(run_folder, config)
    last = len(outline.shapes) - 1 if last is None else last
    outline.check_stage(last)
    check_parts(outline)
    check_memory(outline, range(last + 1), config.keeps, host_budget(config), device)


def run_stages(
    run: RunFolder,
    first: int | None,
    last: int | None,
    device_name: str | None,
    report: Reporter,
    *,
    plan_to: int | None = None,
    says_plan: bool = True,
    lock: Lock | None = None,
    strict: bool = False,
    should_stop: Callable[[], bool] = never,
) -> None:
    """Train stages first..last, by default all, skipping what is done; one alone also writes a store that is gone.

    Under cache.keep = "auto" a plan is made first, of stages 0..plan_to, by default all, said, without `says_plan` in a
    line, and followed. Under "needed", and where the plan has them deleted, no store is written, or stays, that nothing
    will read. The folder is held over all of them, if not by `lock` already.
    """
    stages, machine = len(run.stages), run.config.machine
    first, last = 0 if first is None else first, stages - 1 if last is None else last
    for j in (first, last):
        run.check_stage(j)
    if first > last:
        raise ConfigError(f"--from {first} --to {last}: nothing lies between")
    with lock_folder(run.path, "preparing", held=lock) as held:
        check_stages_writable(run, first, last)
        device = choose_device(
            machine.device if device_name is None else device_name, deterministic=machine.deterministic
        )
        check_parts(run.outline)
        limit_device(run.config, device)
        follows = _following(run, first, last, device, report, held, plan_to, says_plan=says_plan)
        run = follows.begin() if follows else as_planned(run)
        check_stages_memory(run, range(first, last + 1), device)
        if run.frees or run.drops:
            free_stores(run, report)
        say_over_budget(run, report)
        if run.asked.cache.keep != "auto":
            _check_kept(run, first, last, device)
        _say_room(run, first, last, report)
        if run.accepted:
            report.say(f"accepted though stale: {describe_accepted(run.accepted)}")
        for j in range(first, last + 1):
            asked = first == last and not run.frees
            if should_stop() and is_due(run, j, output_asked_for=asked):
                raise Stopped(f"stopped before stage {j}")
            held.says(f"stage {j} of {first}..{last}")
            options: Options = {"output_asked_for": asked, "strict": strict, "should_stop": should_stop}
            is_new = run.stages[j].record is None
            if follows is None and output_is_due(run, j):
                check_first_output(run, j, report)
            was_due, run = _finish(run, j, device, report, follows, options)
            if not was_due:
                report.say(f"stage {j}  done already")
            if follows is not None and is_new:
                run = follows.again(run, j)
                if run.drops:
                    free_stores(run, report)
                _, run = _finish(run, j, device, report, follows, options)  # what the new plan stores
            if run.frees or run.drops:
                free_stores(run, report)
        say_over_budget(run, report)


class Options(TypedDict):
    """Of the training of a stage."""

    output_asked_for: bool
    strict: bool
    should_stop: Callable[[], bool]


def _finish(
    run: RunFolder, j: int, device: torch.device, report: Reporter, follows: Following | None, options: Options
) -> tuple[bool, RunFolder]:
    """Bring stage j to its end: whether it was due, and the run, by a new plan where x_{j+1} was refused."""
    try:
        return train_stage(run, j, device, report, **options), run
    except NoRoomError as error:
        if follows is None:
            raise
        return True, follows.without(j + 1, error)


def _following(
    run: RunFolder,
    first: int,
    last: int,
    device: torch.device,
    report: Reporter,
    held: Lock,
    plan_to: int | None,
    *,
    says_plan: bool,
) -> Following | None:
    """What makes plans, where the config leaves the stores to one and anything is to be trained."""
    if run.config.cache.keep != "auto" or all(stage.record is not None for stage in run.stages[first : last + 1]):
        return None
    return Following(run, device, report, held, plan_to, is_brief=not says_plan)


def check_stages_writable(run: RunFolder, first: int, last: int) -> None:
    """Raise CascadeError, before hours are spent, where a folder that stages first..last write into refuses it."""
    check_writable(run.path / "stages")
    for stage in run.stages[first : last + 1]:
        run.check_unlinked(stage.output("train"))
        check_writable(stage.path)
        check_writable(stage.output("train").parent)


def _check_kept(run: RunFolder, first: int, last: int, device: torch.device) -> None:
    """Raise DiskError where anything is to be done, and what is kept surely does not fit, which a plan has seen to."""
    asked = first == last and not run.frees
    if any(is_due(run, j, output_asked_for=asked) for j in range(first, last + 1)):
        asked_for = last + 1 if asked and run.config.keeps(last + 1) else None
        check_kept(run.path, run.config, device, run=run, last=last, asked_for=asked_for)


def _say_room(run: RunFolder, first: int, last: int, report: Reporter) -> None:
    """Say what the stores may take."""
    if any(stage.record is None for stage in run.stages[first : last + 1]):
        kept, at_a_time = kept_bytes(run), " at a time" if run.frees else ""
        at_most = f"stores past the images: at most {size(kept)}{at_a_time} before compression"
        stores = at_most if kept else "no stores past the images"
        report.say(f"{stores}; {described_room(run.path, budget_bytes(run.config.budget.disk))}")


def check_stages_memory(run: RunFolder, stages: range, device: torch.device) -> None:
    """Raise BudgetError or DeviceMemoryError, before hours are spent, where one of the stages that are not done will
    not fit."""

    def there(i: int) -> bool:
        return run.config.keeps(i) or run.is_stored(i)

    due = [j for j in stages if is_due(run, j, output_asked_for=len(stages) == 1)]
    check_host_memory(run.outline, due, there, run.host_bytes, hold=batches_held(device))
    check_device_memory(run.outline, [j for j in due if run.stages[j].record is None], there, device)
