"""What a run folder holds that nothing needs any more, and its removal."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache import TRIAL, remove_folder, sync
from pipeline.acceptance import accept_stale as accepting
from pipeline.branches import changes, read_records
from pipeline.data_info import X_0
from pipeline.disk import folder_bytes
from pipeline.experiments.overview import reached as reached_beside
from pipeline.experiments.overview import why_not_reached
from pipeline.experiments.places import COMMANDS, DELETED, FEATURES, TRANSFER, WRITTEN
from pipeline.lock import lock_folder
from pipeline.needed import is_needed, output_is_due, own_stores
from pipeline.paths import matching
from pipeline.progress import size
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder, is_committed, is_lost

STAGE_NAME = re.compile(r"(\d+)-[0-9a-f]{8}")
STORE_NAME = re.compile(r"\w+\.(train|validation|test)(\.[\w-]+)?")
TEMPORARY = (".*.new", ".disk-speed")
"""Names of files that are written beside their place, or to time the disk."""
PLACES = (".", X_0, f"{X_0}/*", "stages/*", "stages/*/x_*/*", "stages/*/x_*/*/*", *WRITTEN)
"""Folders of a run folder in which such files may be left."""
ASIDE = re.compile(
    r"\.(?P<name>\d+-[0-9a-f]{8}|(?:\w+\.)?(?:train|validation|test)(?:\.[\w-]+)?|x_0\.partial|features)"
    r"(?P<ending>\.repair|(?:\.repair)?\.removed)"
)
"""Names of folders that are being deleted, or written again by a repair, beside the places of others."""
ASIDE_PATHS = ("*", f"{X_0}/*", "stages/*", "stages/*/x_*/*", *DELETED)
"""Where in a run folder such folders may be left."""
Kind = Literal["branch", "store", "leftover"]
"""A stage, a store, or what was trained beside the stages, of other settings; a store that nothing will read again;
what an interruption left."""


@dataclass(frozen=True)
class Garbage:
    """Something to free."""

    path: Path
    kind: Kind
    """What it is."""
    why: str
    nbytes: int
    """Of its files."""


def collect(run: RunFolder, *, delete: bool, keep_branches: bool, accept_stale: bool) -> list[Garbage]:
    """What `find_garbage` finds; to `delete` it takes the folder's lock. Raises LockedError."""
    with lock_folder(run.path, "gc") if delete else nullcontext():
        garbage = find_garbage(run, keep_branches=keep_branches, accept_stale=accept_stale)
        # what a repair left is a leftover only while the store that it was to take the place of is there
        for one in sorted(garbage, key=lambda one: one.kind != "leftover") if delete else ():
            remove(one)
    return garbage


def find_garbage(run: RunFolder, *, keep_branches: bool = False, accept_stale: bool = False) -> list[Garbage]:
    """All that can be freed without changing a result of the present config. Never x_0.

    `keep_branches` leaves what was made with other settings, `accept_stale` those stages and stores of it that a
    command with --accept-stale would start from. Links are left alone, and what cascade has no name for.
    """
    seen = [run, *(accepting(run, j + 1) for j in range(len(run.stages)) if accept_stale)]
    seen_as = list({tuple(stage.output("train") for stage in one.stages): one for one in seen}.values())
    reached = {stage.path for one in seen_as for stage in one.stages}
    beside = set().union(*map(reached_beside, seen_as))
    found = [*_branches(run, reached | beside), *_beside(run, beside), *_stores(run, seen_as), *_leftovers(run)]
    if keep_branches:
        found = [one for one in found if one.kind != "branch"]
    whole = {one.path for one in found}
    return [one for one in found if whole.isdisjoint(one.path.parents)]


def freeable(run: RunFolder) -> str:
    """As in "cascade gc --run c10 lists what can be freed, 1.2 MB", to advise where there is too little room; "" where
    it would list nothing."""
    freed = sum(one.nbytes for one in find_garbage(run))
    return f"{run.command('gc')} lists what can be freed, {size(freed)}" if freed else ""


def remove(garbage: Garbage) -> None:
    """Delete it. An interruption leaves no half of a stage or of a store that would count as a whole one."""
    path = garbage.path
    if not path.is_dir():
        path.unlink(missing_ok=True)
        sync(path.parent)
    else:
        remove_folder(path)


def _branches(run: RunFolder, reached: Collection[Path]) -> Iterator[Garbage]:
    """Stages that are not among those reached."""
    records = read_records(run.path / "stages")
    for path in _folders(run.path, "stages/*"):
        if (name := STAGE_NAME.fullmatch(path.name)) and path not in reached:
            record = next((one for one in records.values() if f"{one.j}-{one.key}".startswith(path.name)), None)
            yield Garbage(path, "branch", _why_branch(run, int(name[1]), record, records), folder_bytes(path))


def _beside(run: RunFolder, reached: Collection[Path]) -> Iterator[Garbage]:
    """What is trained beside the stages that is not among those reached."""
    for path in (one for folder in COMMANDS for one in _folders(run.path, f"{folder}/*")):
        if STAGE_NAME.fullmatch(path.name) and path not in reached:
            yield Garbage(path, "branch", why_not_reached(run, path), folder_bytes(path))


def _why_branch(run: RunFolder, j: int, record: StageRecord | None, records: dict[str, StageRecord]) -> str:
    if record is None:
        return f"stage {j} with other settings, not finished"
    what = f"stage {j} with other settings, test {record.test_accuracy:.2f}%"
    if j >= len(run.stages):
        return f"{what}: the network has {len(run.stages)} stages"
    return f"{what}: {'; '.join(changes(j, record.fields, run.fields, records))}"


def _stores(run: RunFolder, seen_as: Sequence[RunFolder]) -> Iterator[Garbage]:
    """Stores in the folders of the config's stages that are not used, however the run is seen."""
    for stage in run.stages:
        if stage.path.is_symlink() or stage.path.parent.is_symlink():
            continue
        index = stage.j + 1
        stores = [path for path in _folders(stage.path, f"x_{index}/*") if STORE_NAME.fullmatch(path.name)]
        used = set().union(*(_used(one, index) for one in seen_as)) if stores else set()
        for path in stores:
            if path not in used:
                kind, why = _why_store(run, index, path)
                yield Garbage(path, kind, f"x_{index}{why}", folder_bytes(path))


def _used(run: RunFolder, index: int) -> set[Path]:
    """The stores of x_index that something will still read, or go on writing."""
    if run.config.augment.last_anchor(index) < index:
        return set()
    is_read = is_needed(run, index) or bool(run.lost(index))  # by the repair: the codec, from another split
    goes_on = run.stages[index - 1].record is not None and output_is_due(run, index - 1)
    places = _places(run, index)
    return {path for path in places if (is_read if is_committed(path) else goes_on or is_lost(path))}


def _why_store(run: RunFolder, index: int, path: Path) -> tuple[Kind, str]:
    """Of which kind a store of x_index is that is not used, and what to say of it."""
    if path not in _places(run, index):
        return "branch", " in another encoding, or of another policy"
    if not is_committed(path) and run.stages[index - 1].record is None:
        return "leftover", ", not finished, of a stage that is gone"
    if run.config.augment.last_anchor(index) < index:
        return "branch", ", which this policy does not read"
    if path not in own_stores(run, index):
        return "branch", ", which another policy reads whose training samples lie beside it"
    if not is_committed(path):
        return "leftover", ", not finished, which nothing will read"
    return "store", ": what follows is trained, and nothing will read it again"


def _places(run: RunFolder, index: int) -> set[Path]:
    """Where x_index of each split is stored."""
    return {run.store(index, split) for split in run.splits}


def _leftovers(run: RunFolder) -> Iterator[Garbage]:
    """What interrupted commands left beside the places it was meant for."""
    for name, why in ((f"{X_0}.partial", "an ingest that did not end"), (TRIAL, "a store to time the disk with")):
        partial = run.path / name
        if partial.is_dir() and not partial.is_symlink():
            yield Garbage(partial, "leftover", why, folder_bytes(partial))
    for path in _folders(run.path, f"{TRANSFER}/*/{FEATURES}"):
        why = "features of a transfer that did not end, which the same command goes on from"
        yield Garbage(path, "leftover", why, folder_bytes(path))
    for path in (one for pattern in ASIDE_PATHS for one in _folders(run.path, pattern)):
        if (name_aside := ASIDE.fullmatch(path.name)) and not _takes_its_place(path, name_aside):
            what = "a repair" if name_aside["ending"] == ".repair" else "a removal"
            yield Garbage(path, "leftover", f"{what} that did not end", folder_bytes(path))
    folders = [folder for place in PLACES for folder in ([run.path] if place == "." else _folders(run.path, place))]
    for path in sorted(file for folder in folders for name in TEMPORARY for file in matching(folder, name)):
        if path.is_file() and not path.is_symlink():
            yield Garbage(path, "leftover", "a file that was not finished", folder_bytes(path))


def _takes_its_place(path: Path, name: re.Match[str]) -> bool:
    """Whether a folder is a store that a repair wrote again, and the next one will put in the place of a broken one."""
    return name["ending"] == ".repair" and is_committed(path) and not is_committed(path.with_name(name["name"]))


def _folders(path: Path, pattern: str) -> list[Path]:
    """Folders below `path`; no links, and none that is reached by way of one."""
    depth = pattern.count("/") + 1
    found = (folder for folder in matching(path, pattern) if folder.is_dir())
    return [one for one in found if not any(part.is_symlink() for part in (one, *list(one.parents)[: depth - 1]))]
