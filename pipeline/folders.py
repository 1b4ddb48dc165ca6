"""The images of a folder of classes, in the order of torchvision's ImageFolder, and what in it is none."""

import os
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What the name of an image ends in, in small letters or capitals; torchvision's list."""
KINDS_SHOWN = 6


@dataclass(frozen=True)
class Listing:
    """Image files; the folder of each by its index: whole paths take twice the memory (173 bytes an image, not 88)."""

    folders: list[str]
    """Folders that hold images."""
    folder: NDArray[np.int32]
    """Index into `folders`, one for each image."""
    names: list[str]
    """File name of each image."""
    labels: NDArray[np.int64]
    """Index of the class of each image."""
    left_out: Counter[str]
    """Kind of file or folder that is not taken -> how many."""

    def path(self, i: int) -> str:
        """Where image i is."""
        return os.path.join(self.folders[self.folder[i]], self.names[i])


def class_folders(split: str) -> list[str]:
    """Names of the folders in a split's folder, sorted, hidden ones left out: a class each."""
    with os.scandir(split) as entries:
        return sorted(entry.name for entry in entries if _is_folder(entry) and not entry.name.startswith("."))


def list_images(split: str, classes: Sequence[str]) -> Listing:
    """The images DIR/CLASS/** of the classes, sorted within each by folder and name.

    Links are followed, but never back to a folder above. Raises OSError where a folder cannot be read.
    """
    folders: list[str] = []
    names: list[str] = []
    folder, labels = array("i"), array("q")
    left_out = _outside(split)
    for label, name in enumerate(classes):
        top = os.path.join(split, name)
        for path, found in _walk(top, left_out) if os.path.isdir(top) else []:
            folder.extend([len(folders)] * len(found))
            labels.extend([label] * len(found))
            folders.append(path)
            names += found
    return Listing(folders, np.array(folder, np.int32), names, np.array(labels, np.int64), left_out)


def left_out_note(split: str, left_out: Counter[str]) -> str:
    """What of a split's folder is not taken, in a line."""
    kinds = sorted(left_out.items(), key=lambda kind: (-kind[1], kind[0]))
    shown = ", ".join(f"{count:,} {kind}" for kind, count in kinds[:KINDS_SHOWN])
    others = sum(count for _, count in kinds[KINDS_SHOWN:])
    more = f", {others:,} of other kinds" if others else ""
    return f"not taken from {split}: {shown}{more} (images end in {', '.join(EXTENSIONS)})"


def _outside(split: str) -> Counter[str]:
    """What lies beside the class folders."""
    with os.scandir(split) as entries:
        kinds = (
            "hidden" if entry.name.startswith(".") else "outside the class folders"
            for entry in entries
            if entry.name.startswith(".") or not _is_folder(entry)
        )
        return Counter(kinds)


def _walk(top: str, left_out: Counter[str]) -> list[tuple[str, list[str]]]:
    """The folders of a class, itself first, each with the names of its images; counts the rest in `left_out`."""
    found: list[tuple[str, list[str]]] = []
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            left_out["links to a folder above"] += 1
            continue
        names = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    left_out["hidden"] += 1
                elif _is_folder(entry):
                    waiting.append((entry.path, above | {here}))
                elif entry.name.lower().endswith(EXTENSIONS):
                    names.append(entry.name)
                else:
                    left_out[os.path.splitext(entry.name)[1].lower() or "without an extension"] += 1
        found.append((folder, sorted(names)))
    return sorted(found)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder or a link to one; a link that leads nowhere or to itself is none."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
