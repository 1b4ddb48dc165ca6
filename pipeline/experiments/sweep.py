"""The same training with several seeds, one after the other, and what they scored together."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch

from cache import replace_file
from pipeline.beforehand import check_parts
from pipeline.config import Config, budget_bytes
from pipeline.config_file import load_config
from pipeline.data_info import X_0
from pipeline.device import choose_device
from pipeline.disk import folder_bytes, run_bytes
from pipeline.errors import ConfigError, DiskError, RefusedError, Stopped
from pipeline.experiments.baseline import train_baseline
from pipeline.experiments.end_to_end import end_to_end
from pipeline.experiments.seeds import make_seed_folder, seed_folder, seeds_there
from pipeline.experiments.summary import Summary, summarise
from pipeline.gc import freeable
from pipeline.lock import lock_folder
from pipeline.microbatch import check_parts as check_parts_of
from pipeline.needed import free_stores
from pipeline.plan import as_planned
from pipeline.progress import Reporter, size
from pipeline.rates import RATES
from pipeline.runfolder import RunFolder
from pipeline.runs import check_before_ingest, ingest_data, run_stages
from pipeline.stopping import never


def sweep(
    parent: Path,
    seeds: Sequence[int],
    settings: Sequence[str],
    last: int | None,
    device: str | None,
    report: Reporter,
    *,
    baseline: bool = False,
    skip_bad: bool = False,
    strict: bool = False,
    should_stop: Callable[[], bool] = never,
) -> Summary:
    """Train stages 0..last, by default all, with each seed in a run folder of its own, skipping what is done, and with
    `baseline` the network end to end; what all seeds of these settings scored together.

    The images are ingested once. Budgets are of the whole: what other seeds keep on the disk is not there for this one.
    Once a seed is trained under cache.keep = "auto", its x_j that nothing will read again are deleted.

    Raises what `run_stages` does, and Stopped before the next seed.
    """
    config = load_config(parent, settings)
    lasting = [one for one in settings if not one.strip().startswith("budget.")]  # of the machine, and of the whole
    with lock_folder(parent, "beginning a sweep") as lock:
        check_before_ingest(config, parent, last, device, report, lock=lock)
        ingest_data(config, parent, report, lock=lock, skip_bad=skip_bad, should_stop=should_stop)
        _check(parent, seeds, config, last, device, baseline=baseline)
        for seed in seeds:  # before hours are spent
            make_seed_folder(parent, seed, lasting)
        for number, seed in enumerate(seeds, 1):
            if should_stop():
                raise Stopped(f"stopped before seed {seed}")
            lock.says(f"seed {seed} of a sweep, in {seed_folder(parent, seed)}")
            report.say(f"seed {seed}, {number} of {len(seeds)}, in {seed_folder(parent, seed)}")
            _take_rates(parent, seed, seeds)
            is_first = number == 1
            _train(
                parent, seed, config, last, device, report, says_plan=is_first, strict=strict, should_stop=should_stop
            )
            if baseline:
                lock.says(f"seed {seed} of a sweep, end to end, in {seed_folder(parent, seed)}")
                run = _run_of(parent, seed, config)
                train_baseline(run, _device(config, device), report, strict=strict, should_stop=should_stop)
        return summarise(parent, lasting, lock)


def _check(
    parent: Path, seeds: Sequence[int], config: Config, last: int | None, device: str | None, *, baseline: bool
) -> None:
    """Refuse what the first seed would be refused for, before any has a folder."""
    run = RunFolder(parent, config)
    if last is not None:
        run.check_stage(last)
    _device(config, device)
    check_parts(run.outline)
    if baseline:
        whole = end_to_end(run)
        check_parts_of(config, whole.what, whole.micro_batches(run))
    _check_budget(parent, seeds[0], config)


def _train(
    parent: Path,
    seed: int,
    config: Config,
    last: int | None,
    device: str | None,
    report: Reporter,
    *,
    says_plan: bool,
    strict: bool,
    should_stop: Callable[[], bool],
) -> None:
    folder = seed_folder(parent, seed)
    with lock_folder(folder, "beginning") as lock:
        run = _run_of(parent, seed, config)
        run_stages(
            run,
            0,
            last,
            device,
            report,
            plan_to=last,
            says_plan=says_plan,
            lock=lock,
            strict=strict,
            should_stop=should_stop,
        )
        if config.cache.keep == "auto":
            stores = as_planned(run).config.cache.keep
            free_stores(run.following(stores if isinstance(stores, list) else [], frees=True), report)


def _run_of(parent: Path, seed: int, config: Config) -> RunFolder:
    """The run of a seed, where the others leave something of the budget to it."""
    _check_budget(parent, seed, config)
    return RunFolder(seed_folder(parent, seed), msgspec.structs.replace(config, seed=seed))


def _device(config: Config, name: str | None) -> torch.device:
    machine = config.machine
    return choose_device(machine.device if name is None else name, deterministic=machine.deterministic)


def _check_budget(parent: Path, seed: int, config: Config) -> None:
    """Raise DiskError where what other seeds keep on the disk leaves nothing of its budget to this one."""
    total = budget_bytes(config.budget.disk)
    x_0 = folder_bytes((parent / X_0).resolve())
    others = run_bytes(parent) - x_0 - folder_bytes(seed_folder(parent, seed))
    if total is not None and total <= others:
        gc = [text for text in map(_freeable, [parent, *_others(parent, seed)]) if text]
        raise DiskError(
            f"budget.disk = {size(total)} is of all seeds together, and others keep {size(others)}\n"
            f"next: {'; or '.join(['a larger budget.disk', *gc])}"
        )


def _others(parent: Path, seed: int) -> list[Path]:
    """The run folders of the other seeds."""
    return [seed_folder(parent, other) for other in seeds_there(parent) if other != seed]


def _freeable(folder: Path) -> str:
    """What gc would free of a run folder, as its own config has it; "" where that cannot be read."""
    try:
        return freeable(RunFolder(folder, load_config(folder)))
    except (ConfigError, RefusedError):
        return ""


def _take_rates(parent: Path, seed: int, seeds: Sequence[int]) -> None:
    """What was measured of the machine for another seed, which is as good for this one."""
    own = seed_folder(parent, seed) / RATES
    others = (folder / RATES for folder in (parent, *(seed_folder(parent, other) for other in seeds)))
    known = next((path for path in others if path.is_file() and not path.is_symlink()), None)
    if known is not None and not own.exists():
        replace_file(own, known.read_bytes())
