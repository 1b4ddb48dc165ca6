"""The same training with several seeds, one after the other, and what they scored together."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from cache import replace_file
from pipeline.config import Config, budget_bytes
from pipeline.config_file import load_config
from pipeline.data_info import X_0
from pipeline.disk import folder_bytes, run_bytes
from pipeline.errors import DiskError, Stopped
from pipeline.experiments.places import SEEDS, SUMMARY
from pipeline.experiments.scores import Scored, scores_of
from pipeline.experiments.seeds import make_seed_folder, seed_folder, seeds_there
from pipeline.experiments.statistics import Mean, mean_of
from pipeline.gc import freeable
from pipeline.lock import Lock, lock_folder
from pipeline.needed import free_stores
from pipeline.plan import as_planned
from pipeline.progress import Reporter, size
from pipeline.rates import RATES
from pipeline.runfolder import RunFolder
from pipeline.runs import ingest_data, run_stages
from pipeline.sealed import read_sealed, write_sealed
from pipeline.stopping import never


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A stage's head, or the ensemble, over seeds."""

    what: str
    """As in "stage 2", or "ensemble"."""
    seeds: list[int]
    """That have it trained; the ensemble is of all stages."""
    test: Mean
    """Test accuracy, percent."""
    train: Mean | None
    """Training accuracy as the records have it, percent; None of the ensemble."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """seeds/summary.json: what the seeds scored with the settings of their configs."""

    rows: list[Row]


def sweep(
    parent: Path,
    seeds: Sequence[int],
    settings: Sequence[str],
    last: int | None,
    device: str | None,
    report: Reporter,
    *,
    skip_bad: bool = False,
    strict: bool = False,
    should_stop: Callable[[], bool] = never,
) -> None:
    """Train stages 0..last, by default all, with each seed in a run folder of its own, skipping what is done.

    The images are ingested once. Budgets are of the whole: what other seeds keep on the disk is not there for this one.
    Once a seed is trained under cache.keep = "auto", its x_j that nothing will read again are deleted.

    Raises what `run_stages` does, and Stopped before the next seed.
    """
    config = load_config(parent, settings)
    lasting = [one for one in settings if not one.strip().startswith("budget.")]  # of the machine, and of the whole
    with lock_folder(parent, "beginning a sweep") as lock:
        ingest_data(config, parent, report, lock=lock, skip_bad=skip_bad, should_stop=should_stop)
        for seed in seeds:  # before hours are spent
            make_seed_folder(parent, seed, lasting)
        for number, seed in enumerate(seeds, 1):
            if should_stop():
                raise Stopped(f"stopped before seed {seed}")
            lock.says(f"seed {seed} of a sweep, in {seed_folder(parent, seed)}")
            report.say(f"seed {seed}, {number} of {len(seeds)}, in {seed_folder(parent, seed)}")
            _take_rates(parent, seed, seeds)
            _train(parent, seed, config, last, device, report, strict=strict, should_stop=should_stop)
        summarise(parent, lock)


def _train(
    parent: Path,
    seed: int,
    config: Config,
    last: int | None,
    device: str | None,
    report: Reporter,
    *,
    strict: bool,
    should_stop: Callable[[], bool],
) -> None:
    folder = seed_folder(parent, seed)
    with lock_folder(folder, "beginning") as lock:
        _check_budget(parent, seed, config)
        run = RunFolder(folder, msgspec.structs.replace(config, seed=seed))
        run_stages(run, 0, last, device, report, plan_to=last, lock=lock, strict=strict, should_stop=should_stop)
        if config.cache.keep == "auto":
            stores = as_planned(run).config.cache.keep
            free_stores(run.following(stores if isinstance(stores, list) else [], frees=True), report)


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
    """What gc would free of a run folder, as its own config has it."""
    return freeable(RunFolder(folder, load_config(folder)))


def _take_rates(parent: Path, seed: int, seeds: Sequence[int]) -> None:
    """What was measured of the machine for another seed, which is as good for this one."""
    own = seed_folder(parent, seed) / RATES
    others = (folder / RATES for folder in (parent, *(seed_folder(parent, other) for other in seeds)))
    known = next((path for path in others if path.is_file() and not path.is_symlink()), None)
    if known is not None and not own.exists():
        replace_file(own, known.read_bytes())


def summarise(parent: Path, lock: Lock | None = None) -> Summary:
    """Score all seeds that are there; with the parent's `lock` held, keep that beside them."""
    summary = Summary(rows=rows_of(list(scores_of(parent).values())))
    if lock is not None:
        write_sealed(parent / SEEDS / SUMMARY, summary)
    return summary


def rows_of(found: Sequence[Scored]) -> list[Row]:
    """A row for each stage that any seed has trained, then the ensemble."""
    names = list(dict.fromkeys(name for one in sorted(found, key=lambda one: -len(one.test)) for name in one.test))
    rows = []
    for name in names:
        having = [one for one in found if name in one.test]
        trained = [one.train[name] for one in having if name in one.train]
        rows.append(
            Row(
                what=name,
                seeds=[one.seed for one in having],
                test=mean_of([one.test[name] for one in having]),
                train=mean_of(trained) if trained else None,
            )
        )
    return rows


def read_summary(parent: Path) -> Summary | None:
    """What the last sweep kept; None where none ended. Raises CorruptDataError."""
    path = parent / SEEDS / SUMMARY
    return read_sealed(path, Summary, remedy=f"delete it; the next cascade sweep --run {parent} makes it again")
