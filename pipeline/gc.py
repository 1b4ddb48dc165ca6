"""What a run folder holds that nothing needs any more, and its removal."""

import re
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache import TRIAL, remove_folder, remove_store
from cache.files import sync
from pipeline.acceptance import accept_stale as accepting
from pipeline.branches import changes, read_records
from pipeline.disk import folder_bytes
from pipeline.ingest import X_0
from pipeline.lock import lock_folder
from pipeline.needed import is_needed
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder, is_committed
from pipeline.writeback import output_is_due

STAGE_NAME = re.compile(r"(\d+)-[0-9a-f]{8}")
STORE_NAME = re.compile(r"\w+\.(train|validation|test)(\.[\w-]+)?")
TEMPORARY = (".*.new", ".disk-speed")
"""Names of files that are written beside their place, or to time the disk."""
PLACES = (".", X_0, f"{X_0}/*", "stages/*", "stages/*/x_*/*", "stages/*/x_*/*/*")
"""Folders of a run folder in which such files may be left."""


@dataclass(frozen=True)
class Garbage:
    """Something to free."""

    path: Path
    kind: Literal["branch", "store", "leftover"]
    """A stage, or a store, of other settings; a store that nothing will read again; what an interruption left."""
    why: str
    nbytes: int
    """Of its files."""


def collect(run: RunFolder, *, delete: bool, keep_branches: bool, accept_stale: bool) -> list[Garbage]:
    """What `find_garbage` finds; to `delete` it takes the folder's lock. Raises LockedError."""
    with lock_folder(run.path, "gc") if delete else nullcontext():
        garbage = find_garbage(run, keep_branches=keep_branches, accept_stale=accept_stale)
        for one in garbage if delete else ():
            remove(one)
    return garbage


def find_garbage(run: RunFolder, *, keep_branches: bool = False, accept_stale: bool = False) -> list[Garbage]:
    """All that can be freed without changing a result of the present config. Never x_0.

    `keep_branches` leaves what was made with other settings, `accept_stale` those stages of it that a command with
    --accept-stale would start from. Links are left alone, and what cascade has no name for.
    """
    seen_as = [run, *(accepting(run, j + 1) for j in range(len(run.stages)) if accept_stale)]
    reached = {stage.path for one in seen_as for stage in one.stages}
    found = [*_branches(run, reached), *_stores(run), *_leftovers(run)]
    if keep_branches:
        found = [one for one in found if one.kind != "branch"]
    whole = {one.path for one in found}
    return [one for one in found if whole.isdisjoint(one.path.parents)]


def remove(garbage: Garbage) -> None:
    """Delete it. An interruption leaves no half of a stage or of a store that would count as a whole one."""
    path = garbage.path
    if not path.is_dir():
        path.unlink(missing_ok=True)
        sync(path.parent)
    elif STAGE_NAME.fullmatch(path.name):
        (path / "stage.json").unlink(missing_ok=True)
        sync(path)
        for store in _folders(path, "x_*/*"):
            remove_store(store)
        remove_folder(path, "stage.json")
    else:
        remove_store(path)


def _branches(run: RunFolder, reached: Collection[Path]) -> Iterator[Garbage]:
    """Stages that are not among those reached."""
    records = read_records(run.path / "stages")
    for path in _folders(run.path, "stages/*"):
        if (name := STAGE_NAME.fullmatch(path.name)) and path not in reached:
            record = next((one for one in records.values() if f"{one.j}-{one.key}".startswith(path.name)), None)
            yield Garbage(path, "branch", _why_branch(run, int(name[1]), record, records), folder_bytes(path))


def _why_branch(run: RunFolder, j: int, record: StageRecord | None, records: dict[str, StageRecord]) -> str:
    if record is None:
        return f"stage {j} with other settings, not finished"
    what = f"stage {j} with other settings, test {record.test_accuracy:.2f}%"
    if j >= len(run.stages):
        return f"{what}: the network has {len(run.stages)} stages"
    return f"{what}: {'; '.join(changes(j, record.fields, run.fields, records))}"


def _stores(run: RunFolder) -> Iterator[Garbage]:
    """Stores in the folders of the config's stages."""
    for stage in run.stages:
        if stage.path.is_symlink() or stage.path.parent.is_symlink():
            continue
        index = stage.j + 1
        own = {run.store(index, split) for split in run.splits}
        for path in _folders(stage.path, f"x_{index}/*"):
            if path not in own:
                if STORE_NAME.fullmatch(path.name):
                    why = f"x_{index} in another encoding, or of another policy"
                    yield Garbage(path, "branch", why, folder_bytes(path))
            elif is_committed(path):
                if run.config.augment.last_anchor(index) < index:
                    yield Garbage(path, "branch", f"x_{index}, which this policy does not read", folder_bytes(path))
                elif not is_needed(run, index):
                    why = f"x_{index}: what follows is trained, and nothing will read it again"
                    yield Garbage(path, "store", why, folder_bytes(path))
            elif stage.record is None:
                yield Garbage(path, "leftover", f"x_{index}, not finished, of a stage that is gone", folder_bytes(path))
            elif not output_is_due(run, stage.j):
                yield Garbage(path, "leftover", f"x_{index}, not finished, which nothing will read", folder_bytes(path))


def _leftovers(run: RunFolder) -> Iterator[Garbage]:
    """What interrupted commands left beside the places it was meant for."""
    for name, why in ((f"{X_0}.partial", "an ingest that did not end"), (TRIAL, "a store to time the disk with")):
        partial = run.path / name
        if partial.is_dir() and not partial.is_symlink():
            yield Garbage(partial, "leftover", why, folder_bytes(partial))
    folders = [folder for place in PLACES for folder in ([run.path] if place == "." else _folders(run.path, place))]
    for path in sorted(file for folder in folders for name in TEMPORARY for file in folder.glob(name)):
        if path.is_file() and not path.is_symlink():
            yield Garbage(path, "leftover", "a file that was not finished", path.stat().st_size)


def _folders(path: Path, pattern: str) -> list[Path]:
    """Folders below `path`; no links, and none that is reached by way of one."""
    depth = pattern.count("/") + 1
    found = (folder for folder in sorted(path.glob(pattern)) if folder.is_dir())
    return [one for one in found if not any(part.is_symlink() for part in (one, *list(one.parents)[: depth - 1]))]
