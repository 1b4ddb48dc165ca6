"""All labelled images of a data set in one, whatever split they come from."""

import hashlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ConfigError, first_line, remedy_of
from pipeline.folders import class_folders, left_out_note, list_images
from pipeline.images import load_image
from pipeline.sources import Source, Split, check_names, open_source

SHOWN = 6
READ = 2048
"""Files of a folder, at most, whose content the images are known by too: a few seconds. All of a smaller one."""


@dataclass(frozen=True)
class Pool:
    """Labelled images, loaded one at a time."""

    labels: NDArray[np.int64]
    """One for each image, from 0."""
    load: Callable[[int], Image.Image]
    """Image i. Called from several threads; raises where it is damaged."""
    name: Callable[[int], str]
    """What to call image i in a message."""
    classes: tuple[str, ...]
    """Name of each label."""
    digest: str
    """SHA-256 over the address, classes and labels, and the content of an npz, or of files their size and time, and the
    content of some: what the images are known by."""
    notes: tuple[str, ...] = ()
    """What the user should know of the data set, a line each."""


def open_pool(address: str) -> Pool:
    """Training and test images of the data set at an address; of folder:DIR without DIR/train, DIR/CLASS/**.

    Raises ConfigError where there is none, or all is of one class.
    """
    scheme, _, place = address.partition(":")
    root = Path(os.path.expanduser(place))
    try:
        if scheme == "folder" and root.is_dir() and not (root / "train").is_dir():
            return _of_class_folders(root, address)
        return _joined(open_source(address), address)
    except ConfigError as error:
        what = first_line(error).replace("data.source = ", "--data ")
        raise ConfigError(f"{what}\nnext: {remedy_of(error) or 'mend the data set, or another --data'}") from error


def _joined(source: Source, address: str) -> Pool:
    train, test = source.train, source.test
    count = len(train.labels)

    def of(i: int) -> tuple[Split, int]:
        return (train, i) if i < count else (test, i - count)

    labels = np.concatenate([train.labels, test.labels])
    return _known(
        Pool(
            labels,
            lambda i: of(i)[0].load(of(i)[1]),
            lambda i: of(i)[0].name(of(i)[1]),
            source.classes,
            "",
            source.notes,
        ),
        address,
    )


def _of_class_folders(root: Path, address: str) -> Pool:
    """DIR/CLASS/**, as data sets without a split come."""
    classes = class_folders(str(root))
    if not classes:
        raise ConfigError(f"{root.absolute()} has no folders in it: expected one for each class, or train/ and test/")
    check_names(classes, address)
    if len(classes) < 2:
        raise ConfigError(f"{address}: all images are of one class; a classifier needs at least two")
    listing = list_images(str(root), classes)
    notes = (left_out_note(str(root), listing.left_out),) if listing.left_out else ()
    pool = Pool(listing.labels, lambda i: load_image(listing.path(i)), listing.path, tuple(classes), "", notes)
    return _known(pool, address)


def _known(pool: Pool, address: str) -> Pool:
    """The pool with its digest."""
    scheme, _, place = address.partition(":")
    digest = hashlib.sha256(msgspec.json.encode([scheme, Path(place).name, pool.classes]))
    digest.update(pool.labels.astype("<i8").tobytes())
    count = len(pool.labels)
    for name in map(pool.name, range(count)) if scheme == "folder" else ():
        status = os.stat(name)
        digest.update(msgspec.json.encode([os.path.basename(name), status.st_size, status.st_mtime_ns]))
    some = np.unique(np.linspace(0, count - 1, min(count, READ)).astype(int)).tolist() if count else []
    whole = {"npz": [os.path.expanduser(place)], "folder": [pool.name(row) for row in some]}
    for name in whole.get(scheme, ()):
        with open(name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return replace(pool, digest=digest.hexdigest())


def with_enough(pool: Pool, per_class: int, *, skip_small: bool) -> tuple[Pool, list[str]]:
    """The classes of more than `per_class` images, and the names of those left out, with `skip_small`.

    Raises ConfigError where there are such without it, or less than two classes stay.
    """
    counts = np.bincount(pool.labels, minlength=len(pool.classes))
    small = np.flatnonzero(counts <= per_class)
    names = [f"{pool.classes[label]!r} ({counts[label]})" for label in small]
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
    if small.size and not skip_small:
        largest = max(int(counts.min()) - 1, 0)
        fewer = f"--per-class {largest}, or " if largest else ""
        raise ConfigError(
            f"{small.size} of {len(counts)} classes have less than {per_class + 1} images, {per_class} to train on and "
            f"one to test: {shown}\nnext: {fewer}--skip-small, which leaves them out"
        )
    kept = np.flatnonzero(counts > per_class)
    if len(kept) < 2:
        raise ConfigError(
            f"less than two classes have {per_class + 1} images; without {shown}, nothing is to be told apart\n"
            f"next: a smaller --per-class"
        )
    if not small.size:
        return pool, []
    some = _of_rows(pool, np.flatnonzero(np.isin(pool.labels, kept)))
    classes = tuple(pool.classes[label] for label in kept)
    smaller = replace(some, labels=np.searchsorted(kept, some.labels), classes=classes)
    return smaller, [pool.classes[label] for label in small]


def without(pool: Pool, rows: Collection[int]) -> Pool:
    """The pool without some of its images, known by which they are; where there are none the same."""
    if not rows:
        return pool
    digest = hashlib.sha256(msgspec.json.encode([pool.digest, sorted(rows)])).hexdigest()
    return replace(_of_rows(pool, np.setdiff1d(np.arange(len(pool.labels)), list(rows))), digest=digest)


def _of_rows(pool: Pool, rows: NDArray[np.int64]) -> Pool:
    """Some of the images, of the same classes and with the same digest."""
    return replace(
        pool,
        labels=pool.labels[rows],
        load=lambda i: pool.load(int(rows[i])),
        name=lambda i: pool.name(int(rows[i])),
    )
