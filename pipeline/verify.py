"""Whether every stored byte of a run folder is the one that was written, and on request whether it follows from its
parent."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from cache import MANIFEST, CorruptStoreError, FormatError, NoStoreError, StoreError, inspect, read_manifest
from pipeline.bad_images import SKIPPED, read_skipped
from pipeline.branches import changes, read_records
from pipeline.checked import GONE, Checked, Damage, within
from pipeline.data_info import X_0
from pipeline.deep import compute_again
from pipeline.errors import (
    FORMAT_REMEDY,
    CascadeError,
    ConfigError,
    CorruptDataError,
    RefusedError,
    first_line,
    remedy_of,
)
from pipeline.experiments.seeds import numbered, seed_folder
from pipeline.experiments.seedscores import anew, open_seed, said
from pipeline.experiments.soundness import check_beside
from pipeline.paths import matching
from pipeline.progress import Reporter
from pipeline.record import stage_path
from pipeline.runfolder import RunFolder, is_committed, is_unfinished
from pipeline.stage_files import check_stage, successors
from pipeline.stopping import check_stop, never


def verify(
    run: RunFolder,
    report: Reporter,
    *,
    deep_on: torch.device | None = None,
    images: bool = True,
    should_stop: Callable[[], bool] = never,
) -> Iterator[Checked]:
    """Read every committed store and every file of every stage, and of what is kept beside them, those of other
    branches included.

    Given a device, some chunks of each store of the present config are computed again there and compared. Nothing is
    written; without `images`, x_0 is left to whoever looks at its owner; what is damaged does not keep the rest from
    being looked at.

    Raises PermissionError, and between two files Stopped, once `should_stop` says so.
    """
    places = {run.store(index, split): (index, split) for index in range(len(run.stages) + 1) for split in run.splits}
    places = {path: place for path, place in places.items() if run.is_rendered_alike(place[0])}
    if run.info.skipped and images:
        yield _check_skipped(run)
    for path in _stores(run, places):
        if path.parent == run.path / X_0 and not images:
            continue
        place = places.get(path)
        command = run.command("repair") if place else _branch_remedy(run, path)
        checked = _check_store(run, path, command, report, should_stop)
        if place and not checked.damage and not checked.note:
            checked = _in_its_place(run, *place, checked)
        if deep_on is not None and not place:
            checked = replace(checked, note="not computed again: it is of other settings; --set them to do so")
        elif deep_on is not None and place and not checked.damage and not checked.note:
            checked = compute_again(run, *place, checked, deep_on, should_stop)
        yield checked
    started = successors(run.path / "stages")
    for folder in matching(run.path / "stages", "[!.]*-*"):
        yield check_stage(run, folder, started, should_stop)
    yield from check_beside(run, should_stop)
    for seed in numbered(run.path):
        yield from _check_seed(run, seed, report, deep_on, should_stop)


def _check_seed(
    run: RunFolder, seed: int, report: Reporter, deep_on: torch.device | None, should_stop: Callable[[], bool]
) -> Iterator[Checked]:
    """The run folder of a seed of a sweep, by its own config; the images are those of `run`."""
    what = str(seed_folder(run.path, seed).relative_to(run.path))
    try:
        own = open_seed(run.path, seed)
    except (ConfigError, RefusedError) as error:
        remedy = remedy_of(error) or anew(run.path, seed)
        yield Checked(what, 0, 0, 0, [Damage(what, f"not checked: {said(error)}", remedy)], kind="experiment")
        return
    for row in verify(own, report, deep_on=deep_on, images=False, should_stop=should_stop):
        damage = [replace(one, file=f"{what}/{one.file}") for one in row.damage]
        yield replace(row, what=f"{what}/{row.what}", damage=damage)


def _branch_remedy(run: RunFolder, store: Path) -> str:
    """How to repair a store of other settings, which are named where its stage's record can be read."""
    records = read_records(run.path / "stages")
    stages = (one for one in records.values() if stage_path(run.path / "stages", one.j, one.key) == store.parents[1])
    stage = next(stages, None)
    if stage and run.is_stand_in(stage.j) and (settings := run.settings_of_views(stage.j + 1)):
        return run.command("repair", *settings)
    changed = changes(stage.j, stage.fields, run.fields, records) if stage and stage.j < len(run.stages) else []
    named = f" (then and now: {'; '.join(changed)})" if changed else ""
    return f"give the settings of that branch{named}: {run.command('repair')} --set KEY=VALUE"


def _stores(run: RunFolder, places: Mapping[Path, tuple[int, str]]) -> list[Path]:
    """The folders of all stores that were committed, also of those that lost what shows it; x_0 has every split."""
    found = [path for pattern in (f"{X_0}/[!.]*", "stages/[!.]*-*/x_*/[!.]*") for path in matching(run.path, pattern)]
    whole = [path for path in found if path.is_dir() and not is_unfinished(path)]
    return sorted({*whole, *(path for path, (index, _) in places.items() if index == 0)})


def _check_skipped(run: RunFolder) -> Checked:
    """The list of what was left out of x_0."""
    path, damage = run.path / X_0 / SKIPPED, []
    what = str(path.relative_to(run.path))
    try:
        read_skipped(path.parent, run.info.skipped)
    except CorruptDataError as error:
        damage.append(Damage(what, first_line(error), remedy_of(error)))
    return Checked(what, 1, path.stat().st_size if path.is_file() else 0, 0, damage, kind="list")


def _check_store(
    run: RunFolder, path: Path, command: str, report: Reporter, should_stop: Callable[[], bool]
) -> Checked:
    what = str(path.relative_to(run.path))
    try:
        run.check_unlinked(path)
        manifest = read_manifest(path)
    except PermissionError:
        raise  # which says nothing of the file
    except (CascadeError, StoreError, OSError) as error:
        if path.parent != run.path / X_0 and (not path.is_dir() or is_unfinished(path)):
            return Checked(what, 0, 0, 0, [], GONE)
        reason = f"{path / MANIFEST} is missing" if isinstance(error, NoStoreError) else first_line(error)
        remedy = FORMAT_REMEDY if isinstance(error, FormatError) else remedy_of(error) or command
        return Checked(what, 0, 0, 0, [Damage(f"{what}/{MANIFEST}", within(reason, path), remedy)])
    damage = []
    files = nbytes = 0
    with report.task(f"verify {what}", manifest.summary.nbytes) as task:
        try:
            for file in inspect(path, manifest, threads=run.config.machine.threads):
                check_stop(should_stop, what)
                files += bool(file.array)
                nbytes += file.nbytes
                task.update(nbytes)
                if file.damage:
                    damage.append(Damage(f"{what}/{file.name}", within(file.damage, path), command))
        except CorruptStoreError as error:  # a manifest that is whole and describes no store of ours
            damage.append(Damage(f"{what}/{MANIFEST}", within(str(error), path), command))
    if damage and not is_committed(path):
        return Checked(what, 0, 0, 0, [], GONE)
    return Checked(what, files, nbytes, 0, damage)


def _in_its_place(run: RunFolder, index: int, split: str, checked: Checked) -> Checked:
    """A sound store, which is damage where another one belongs."""
    try:
        run.open_store(index, split)
    except (CascadeError, StoreError) as error:
        damage = Damage(f"{checked.what}/{MANIFEST}", first_line(error), remedy_of(error) or run.made_again(index))
        return replace(checked, damage=[damage])
    return checked
