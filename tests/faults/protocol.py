"""What must hold of the order in which a run writes, syncs, renames and deletes, checked over its record."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from cache import JOURNAL, MANIFEST
from cache.removal import REMOVED
from tests.faults.disk import Disk, File, Folder
from tests.faults.syscalls import Event
from tests.faults.tiny import LOCK

PARTIAL = "x_0.partial"


def breaches(root: Path, events: Iterable[Event]) -> list[str]:
    """Where a record breaks the protocol, each with the number of its call. `root` is as it was before them.

    A file is synced before it is renamed into place; all of a store, names too, before its manifest is; nothing of a
    store is deleted before its manifest, or the name of its folder, durably; a checkpoint only after the record that
    succeeds it, or another checkpoint, is durable; and in the end everything is, but for removals.
    """
    disk, found, number = Disk(root), [], 0
    for number, event in enumerate(events):
        if not event.failed:
            found += [f"call {number}: {what}" for what in _breaches(disk, event)]
        disk.apply(event)
    found += [f"after the last call, {number}: {what} may be lost" for what in disk.volatile() if _matters(what)]
    return found


def _matters(lost: str) -> bool:
    """Whether a loss is one: a removal that is lost leaves what the next command sweeps."""
    return LOCK not in lost and not lost.startswith("the removal of ")


def _breaches(disk: Disk, event: Event) -> Iterator[str]:
    """What is wrong with making this call now."""
    path = Path(event.path)
    match event.op:
        case "rename" | "link":
            entry, target = disk.find(path), Path(event.to)
            if isinstance(entry, File) and not entry.is_synced and not _is_written_again(path):
                yield f"{path} gets the name {target.name} before its bytes are synced"
            if target.name == MANIFEST:
                yield from (
                    f"{target} is put in place while {what} may be lost"
                    for what in disk.volatile(target.parent)
                    if path.name not in what
                )
        case "unlink" | "rmdir":
            yield from _early_deletion(disk, path)


def _early_deletion(disk: Disk, path: Path) -> Iterator[str]:
    store = next((folder for folder in path.parents if _may_have_manifest(disk, folder)), None)
    if store is not None and not _is_aside(disk, store) and path.name not in (MANIFEST, JOURNAL):
        yield f"{path} is deleted while {store / MANIFEST} may be there"
    if path.name.startswith("checkpoint"):
        others = [path.with_name(name) for name in _names(disk, path.parent) if name.startswith("checkpoint")]
        successors = [path.with_name("stage.json"), *(other for other in others if other != path)]
        if not any(map(disk.is_durable, successors)):
            yield f"{path} is deleted before what succeeds it is durable"


def _is_written_again(path: Path) -> bool:
    """Whether zarr-python puts this file in place: it never syncs, and commit does so afterwards."""
    return path.name.endswith(".partial")


def _may_have_manifest(disk: Disk, folder: Path) -> bool:
    entry = disk.find(folder)
    return isinstance(entry, Folder) and any(MANIFEST in state for state in (entry.names, *entry.states))


def _is_aside(disk: Disk, folder: Path) -> bool:
    """Whether a folder, or one that it is in, is being taken back and surely has no other name than that says, or is
    what an ingest had not put in place yet."""
    for path in (folder, *folder.parents):
        if path.name == PARTIAL:
            return True
        entry = disk.find(path.parent)
        if path.name.endswith(REMOVED) and isinstance(entry, Folder):
            return all(path.name in state for state in entry.states)
    return False


def _names(disk: Disk, folder: Path) -> list[str]:
    entry = disk.find(folder)
    return list(entry.names) if isinstance(entry, Folder) else []


def reuses(runs: Iterable[list[Event]]) -> list[str]:
    """Files that are written on, synced again, or put in place after a sync of them failed, over several runs.

    What the system could not write it may have dropped, and a second sync reports success. A folder has no other to
    take its place.
    """
    files: set[str] = set()
    failed: set[str] = set()
    found = []
    for events in runs:
        for event in events:
            if event.op == "fsync" and event.failed:
                failed |= {event.path} & files
            elif event.failed:
                continue
            elif event.op == "unlink" or (event.op == "open" and event.is_new):
                failed.discard(event.path)
            elif event.op in ("open", "write", "fsync", "rename", "link") and event.path in failed:
                found.append(f"{event.op} of {event.path} after its sync failed")
            elif event.op == "rename":
                failed.discard(event.to)  # another file takes its place
            if event.op == "open" or event.path in files:
                files.add(event.to or event.path)
    return found
