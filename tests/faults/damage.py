"""Everything that can happen to the bytes of a few files: flips, cuts, additions, deletions, exchanges."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

Files = Mapping[str, bytes]
"""Path in a folder -> bytes."""


@dataclass(frozen=True)
class Damage:
    """One damage, as what the files now hold."""

    name: str
    """What was done."""
    now: Mapping[str, bytes | None]
    """Path -> bytes; None where the file is gone."""


def flips(files: Files, seed: int) -> Iterator[Damage]:
    """Every byte with one bit of it flipped."""
    chance = random.Random(seed)
    for path, data in files.items():
        for place in range(len(data)):
            flipped = data[place] ^ 1 << chance.randrange(8)
            yield Damage(f"byte {place} flipped", {path: data[:place] + bytes([flipped]) + data[place + 1 :]})


def cuts(files: Files) -> Iterator[Damage]:
    """Every shorter length, from nothing on."""
    for path, data in files.items():
        for length in range(len(data)):
            yield Damage(f"cut to {length} bytes", {path: data[:length]})


def additions(files: Files) -> Iterator[Damage]:
    """A byte more, and everything twice."""
    for path, data in files.items():
        yield Damage("a byte added", {path: data + b"\0"})
        yield Damage("there twice", {path: data + data})


def zeros(files: Files) -> Iterator[Damage]:
    """All bytes zero, as some file systems leave a file after a power cut."""
    for path, data in files.items():
        yield Damage("zeros", {path: bytes(len(data))})


def deletions(files: Files) -> Iterator[Damage]:
    """Each file gone."""
    for path in files:
        yield Damage("deleted", {path: None})


def swaps(files: Files) -> Iterator[Damage]:
    """Each two files of one length, with other bytes, exchanged."""
    for one, other in combinations(files, 2):
        if len(files[one]) == len(files[other]) and files[one] != files[other]:
            yield Damage(f"exchanged with {other}", {one: files[other], other: files[one]})


def strangers(files: Files, others: Files) -> Iterator[Damage]:
    """Each file as another folder has it at the same place."""
    for path in files.keys() & others.keys():
        if files[path] != others[path]:
            yield Damage("another run's", {path: others[path]})


@contextmanager
def applied(folder: Path, files: Files, damage: Damage) -> Iterator[None]:
    """The files with a damage in them while the context is open."""
    try:
        for path, data in damage.now.items():
            if data is None:
                (folder / path).unlink()
            else:
                (folder / path).write_bytes(data)
        yield
    finally:
        for path in damage.now:
            (folder / path).write_bytes(files[path])
