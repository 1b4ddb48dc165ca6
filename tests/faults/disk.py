"""What of a folder is durable after a record of calls, and what a power cut may leave of it.

The model is POSIX's, which promises less than any file system keeps: the bytes of a file are durable once it was
synced, a name once its folder was. Until then each may be there or not.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.faults.syscalls import Event

Loss = Literal["all", "contents", "zeros", "some"]
"""What was not synced when the power went: names and bytes are gone; names are there, their files empty; the same with
zeros for bytes; of each folder some state between, of each file any of these."""


@dataclass
class File:
    """A file as a process sees it, and as the disk may have it."""

    durable: bytes = b""
    """Bytes at the last sync."""
    nbytes: int = 0
    """Size now."""
    is_synced: bool = False
    """Whether nothing was written since the last sync."""


@dataclass
class Folder:
    """The same of a folder."""

    names: "dict[str, File | Folder]" = field(default_factory=dict)
    """What it holds now."""
    states: "list[dict[str, File | Folder]]" = field(default_factory=lambda: [{}])
    """What it held at the last sync, and after each change since."""

    def change(self, name: str, entry: "File | Folder | None") -> None:
        """Put an entry at a name, or remove what is there."""
        if entry is None:
            del self.names[name]
        else:
            self.names[name] = entry
        self.states.append(dict(self.names))


class Disk:
    """The folder at `root`, all of it durable to begin with."""

    def __init__(self, root: Path) -> None:
        self._top = _read(root)

    def apply(self, event: Event) -> None:
        """What a call does; one that failed does nothing."""
        if event.failed:
            return
        entry = self.find(event.path)
        if event.op == "fsync" and isinstance(entry, Folder):
            entry.states = [dict(entry.names)]
            return
        parent, name = self._place(event.path)
        match event.op, entry:
            case "open", None:
                parent.change(name, File())
            case (("write" | "truncate"), File()):
                entry.nbytes, entry.is_synced = event.nbytes, False
            case "fsync", File():
                assert event.content is not None
                entry.durable, entry.nbytes, entry.is_synced = event.content, len(event.content), True
            case "rename", File() | Folder():
                del parent.names[name]  # both names at once, where they are in one folder
                self._put(event.to, entry)
                if self.find(Path(event.to).parent) is not parent:
                    parent.states.append(dict(parent.names))
            case "link", File():
                self._put(event.to, entry)
            case (("unlink" | "rmdir"), File() | Folder()):
                parent.change(name, None)
            case "mkdir", None:
                parent.change(name, Folder())

    def find(self, path: str | Path) -> File | Folder | None:
        """What is at a path within the root now."""
        entry: File | Folder | None = self._top
        for part in Path(path).parts:
            entry = entry.names.get(part) if isinstance(entry, Folder) else None
        return entry

    def volatile(self, folder: str | Path = ".") -> list[str]:
        """What a power cut now may lose or bring back in a folder, in words."""
        entry = self.find(folder)
        assert isinstance(entry, Folder)
        return list(_volatile(entry, ""))

    def is_durable(self, path: Path) -> bool:
        """Whether a file, and its name, would be there after a power cut."""
        parent, entry = self.find(path.parent), self.find(path)
        return isinstance(entry, File) and entry.is_synced and _keeps(parent, path.name, entry)

    def after_power_cut(self, folder: Path, loss: Loss, seed: int = 0) -> None:
        """Make a folder that holds what a power cut now may leave."""
        _write(self._top, folder, loss, random.Random(seed))

    def _place(self, path: str) -> tuple[Folder, str]:
        parent = self.find(Path(path).parent)
        assert isinstance(parent, Folder), f"{path} has no folder"
        return parent, Path(path).name

    def _put(self, path: str, entry: File | Folder) -> None:
        parent, name = self._place(path)
        parent.change(name, entry)


def after(root: Path, events: Iterable[Event]) -> Disk:
    """The disk after calls that began with `root` as it is."""
    disk = Disk(root)
    for event in events:
        disk.apply(event)
    return disk


def _read(folder: Path) -> Folder:
    names: dict[str, File | Folder] = {}
    for path in folder.iterdir():
        names[path.name] = _read(path) if path.is_dir() else File(path.read_bytes(), path.stat().st_size, True)
    return Folder(names, [dict(names)])


def _keeps(folder: File | Folder | None, name: str, entry: File | Folder) -> bool:
    return isinstance(folder, Folder) and all(state.get(name) is entry for state in folder.states)


def _volatile(folder: Folder, where: str) -> Iterator[str]:
    for name, entry in folder.names.items():
        if not _keeps(folder, name, entry):
            yield f"the name {where}{name}"
        if isinstance(entry, Folder):
            yield from _volatile(entry, f"{where}{name}/")
        elif not entry.is_synced:
            yield f"the bytes of {where}{name}"
    for name in {name for state in folder.states for name in state} - folder.names.keys():
        yield f"the removal of {where}{name}"


def _write(folder: Folder, path: Path, loss: Loss, chance: random.Random) -> None:
    path.mkdir()
    names = folder.states[0] if loss == "all" else folder.names if loss != "some" else chance.choice(folder.states)
    for name, entry in names.items():
        if isinstance(entry, Folder):
            _write(entry, path / name, loss, chance)
        else:
            (path / name).write_bytes(_left_of(entry, loss, chance))


def _left_of(file: File, loss: Loss, chance: random.Random) -> bytes:
    if file.is_synced:
        return file.durable
    match chance.choice(("all", "contents", "zeros")) if loss == "some" else loss:
        case "all":
            return file.durable
        case "zeros":
            return bytes(file.nbytes)
    return b""
