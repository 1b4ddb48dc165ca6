"""Data sets by address: digits:, npz:FILE, folder:DIR, torchvision:NAME. Each gives a training and a test split."""

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ConfigError, CorruptDataError
from pipeline.folders import Listing, class_folders, left_out_note, list_images
from pipeline.images import load_image

ADDRESSES = "digits:, npz:FILE, folder:DIR or torchvision:NAME"
LARGEST = np.iinfo(np.int64).max
CLASSES_SHOWN = 10


@dataclass(frozen=True)
class Split:
    """Labelled images, loaded one at a time."""

    labels: NDArray[np.int64]
    """One for each image, from 0."""
    load: Callable[[int], Image.Image]
    """Image i. Called from several threads; raises where the image is damaged."""
    name: Callable[[int], str]
    """What to call image i in a message."""


@dataclass(frozen=True)
class Source:
    """A data set."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    """Name of each label."""
    notes: tuple[str, ...] = ()
    """What the user should know of it, a line each: what was left out, or is missing."""


def open_source(address: str) -> Source:
    """The data set at `address`. Raises ConfigError where there is none, CorruptDataError where its labels are off."""
    scheme, colon, place = address.partition(":")
    openers = {"digits": _digits, "npz": _npz, "folder": _folder, "torchvision": _torchvision}
    if not colon or scheme not in openers:
        raise ConfigError(f"data.source = {address!r}: expected {ADDRESSES}")
    source = openers[scheme](place)
    _check(source, address)
    return source


def check_names(classes: Sequence[str], address: str) -> None:
    """Raise ConfigError where the name of a class is no text."""
    for name in classes:
        if not _is_text(name):
            raise ConfigError(f"{address}: the class name {name!a} is not UTF-8; rename it")


def _check(source: Source, address: str) -> None:
    check_names(source.classes, address)
    for name, split in (("training", source.train), ("test", source.test)):
        if not len(split.labels):
            raise ConfigError(f"{address} has no {name} images")
        outside = np.flatnonzero((split.labels < 0) | (split.labels >= len(source.classes)))
        if outside.size:
            first = int(outside[0])
            raise CorruptDataError(
                f"{address}: {outside.size} labels of the {name} images lie outside 0..{len(source.classes) - 1}, "
                f"the first is {split.labels[first]}, of {split.name(first)}"
            )
    images = np.bincount(source.train.labels, minlength=len(source.classes))
    if len(images) < 2:
        raise ConfigError(
            f"{address}: all training images are of one class, {source.classes[0]!r}; a classifier needs at least two"
        )
    if not images.all():
        empty = [source.classes[label] for label in np.flatnonzero(images == 0)]
        raise ConfigError(
            f"{address} has no training images of {_named(empty, len(images))}; "
            f"leave the class out, or add images (labels count from 0)"
        )


def _named(some: list[str], of: int) -> str:
    """Some of the classes, by name."""
    more = f" and {len(some) - CLASSES_SHOWN:,} more" if len(some) > CLASSES_SHOWN else ""
    return f"{len(some)} of {of} classes: {', '.join(map(repr, some[:CLASSES_SHOWN]))}{more}"


def _is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; one from a file system or an array may hold stray bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _array_split(images: NDArray[np.uint8], labels: NDArray[np.int64], what: str) -> Split:
    return Split(labels, load=lambda i: Image.fromarray(images[i]), name=lambda i: f"{what}[{i}]")


def _digits(place: str) -> Source:
    """scikit-learn's handwritten digits, 8x8, 0..16: every fifth of each class is for testing."""
    from sklearn.datasets import load_digits

    if place:
        raise ConfigError(f"data.source = 'digits:{place}': digits: stands alone")
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    rank_in_class = np.empty(len(labels), np.int64)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        rank_in_class[members] = np.arange(len(members))
    test = rank_in_class % 5 == 4
    return Source(
        _array_split(images[~test], labels[~test], "digits train"),
        _array_split(images[test], labels[test], "digits test"),
        tuple(map(str, range(10))),
    )


def _npz(place: str) -> Source:
    path = Path(os.path.expanduser(place))
    keys = ("train_images", "train_labels", "test_images", "test_labels")
    if not path.is_file():
        raise ConfigError(f"{path.absolute()} is no file; give data.source = 'npz:FILE'")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = list(file.files)
            arrays = {key: np.asarray(file[key]) for key in (*keys, "class_names") if key in found}
    except Exception as error:  # of the zip, of its compression, of numpy's headers: whatever ails it
        raise CorruptDataError(f"{path} is not a readable npz file of plain arrays: {error}") from error
    if missing := [key for key in keys if key not in arrays]:
        raise ConfigError(f"{path} lacks {', '.join(missing)}; it has {', '.join(found) or 'nothing'}")
    splits = []
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        shaped = images.ndim in (3, 4) and images.shape[3:] in ((), (1,), (3,)) and 0 not in images.shape[1:]
        if images.dtype != np.uint8 or not shaped:
            raise ConfigError(
                f"{path}: {split}_images is {images.dtype} of shape {images.shape}; "
                f"expected uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
            )
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise ConfigError(
                f"{path}: {split}_labels is {labels.dtype} of shape {labels.shape}; "
                f"expected one integer for each of the {len(images)} {split}_images"
            )
        images = images[..., 0] if images.shape[3:] == (1,) else images
        splits.append(_array_split(images, _signed(labels, f"{path}: {split}_labels"), f"{split}_images"))
    names = arrays.get("class_names")
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
        raise ConfigError(
            f"{path}: class_names is {names.dtype} of shape {names.shape}; expected one string for each class"
        )
    return Source(splits[0], splits[1], _numbered(splits[0], str(path)) if names is None else tuple(map(str, names)))


def _folder(place: str) -> Source:
    """torchvision's ImageFolder layout: DIR/train/CLASS/*, and DIR/test or DIR/val the same; test wins over val."""
    root = Path(os.path.expanduser(place))
    if not root.is_dir():
        raise ConfigError(f"{root.absolute()} is no folder; give data.source = 'folder:DIR'")
    train, test = root / "train", next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if not train.is_dir() or test is None:
        missing = [*(["train/"] if not train.is_dir() else []), *(["test/ or val/"] if test is None else [])]
        raise ConfigError(f"{root.absolute()} has no {' and no '.join(missing)} folder")
    classes = class_folders(str(train))
    if not classes:
        raise ConfigError(f"{train} has no folders in it: expected one for each class")
    if strangers := sorted(set(class_folders(str(test))) - set(classes)):
        raise ConfigError(f"{test} has classes that {train} lacks: {', '.join(strangers[:5])}")
    listings = {folder: list_images(str(folder), classes) for folder in (train, test)}
    notes = [left_out_note(str(folder), listing.left_out) for folder, listing in listings.items() if listing.left_out]
    if untested := np.setdiff1d(np.arange(len(classes)), listings[test].labels).tolist():
        notes.append(f"{test} has no images of {_named([classes[label] for label in untested], len(classes))}")
    return Source(_files_split(listings[train]), _files_split(listings[test]), tuple(classes), tuple(notes))


def _files_split(listing: Listing) -> Split:
    return Split(listing.labels, lambda i: load_image(listing.path(i)), listing.path)


def _torchvision(place: str) -> Source:
    """A data set of torchvision, downloaded to $CASCADE_DATA or ~/.cache/cascade where torchvision can."""
    from torchvision import datasets

    kind: Any = getattr(datasets, place, None)
    if not isinstance(kind, type) or not issubclass(kind, datasets.VisionDataset):
        raise ConfigError(f"data.source = 'torchvision:{place}': torchvision.datasets has no data set of this name")
    root = Path(os.path.expanduser(os.environ.get("CASCADE_DATA", "~/.cache/cascade")))
    build: Callable[..., Any] = kind
    parameters = inspect.signature(build).parameters
    common: dict[str, Any] = {"root": str(root), **({"download": True} if "download" in parameters else {})}
    try:
        if "train" in parameters:
            train, test = build(train=True, **common), build(train=False, **common)
        elif "split" in parameters:
            train, test = build(split="train", **common), _held_out(build, common)
        else:
            raise ConfigError(f"torchvision's {place} has no training and test split; give it as folder:DIR")
    except (RuntimeError, OSError, ImportError) as error:
        raise ConfigError(f"torchvision:{place} is not at hand in {root}: {error}") from error
    except (ValueError, TypeError) as error:  # other splits, or more to choose
        raise ConfigError(
            f"torchvision:{place} cannot be had by its name alone: {error}; give it as npz:FILE"
        ) from error
    splits = [_torchvision_split(dataset, place, part) for dataset, part in ((train, "train"), (test, "test"))]
    classes = _numbered(splits[0], f"torchvision:{place}")
    names = getattr(train, "classes", None)
    if names is not None and len(names) >= len(classes):
        # ImageNet and Imagenette give tuples of synonyms
        classes = tuple(name if isinstance(name, str) else ", ".join(name) for name in names)
    return Source(splits[0], splits[1], classes)


def _held_out(kind: Callable[..., Any], common: dict[str, Any]) -> Any:
    """The test split, or where the labels of that are not public, the validation split."""
    try:
        return kind(split="test", **common)
    except ValueError:  # what torchvision raises for a split that the data set lacks
        return kind(split="val", **common)


def _torchvision_split(dataset: Any, name: str, part: str) -> Split:
    labels = next((getattr(dataset, a) for a in ("targets", "labels", "_labels") if hasattr(dataset, a)), None)
    try:
        if labels is None:
            labels = [label for _, label in getattr(dataset, "_samples", None) or dataset]
        labels = np.asarray(labels)
    except Exception as error:  # of a data set of anything else than labelled images
        raise ConfigError(f"the labels of torchvision's {name} {part} cannot be read: {error}") from error
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ConfigError(
            f"torchvision's {name} {part} has labels of type {labels.dtype} and shape {labels.shape}; "
            f"expected one integer for each image"
        )
    if len(labels) != len(dataset):
        raise ConfigError(f"torchvision's {name} {part} has {len(labels)} labels for {len(dataset)} images")

    def load(i: int) -> Image.Image:
        image = dataset[i][0]
        if not isinstance(image, Image.Image):
            raise TypeError(f"torchvision's {name} gives {type(image).__name__}, not images")
        return image

    return Split(_signed(labels, f"torchvision's {name} {part}"), load, lambda i: f"{name} {part}[{i}]")


def _signed(labels: NDArray[Any], what: str) -> NDArray[np.int64]:
    """Labels of any integer type; those of uint64 beyond int64 would turn negative."""
    if (beyond := np.flatnonzero(labels > LARGEST)).size:
        raise CorruptDataError(
            f"{what}: {beyond.size} labels lie outside 0..{LARGEST}, the first is {labels[beyond[0]]}, at {beyond[0]}"
        )
    return labels.astype(np.int64)


def _numbered(train: Split, address: str) -> tuple[str, ...]:
    """Numbers as names, one for each label up to the largest."""
    count = int(train.labels.max(initial=0)) + 1
    if count > max(len(train.labels), 1):
        raise CorruptDataError(
            f"{address}: a label {count - 1} among {len(train.labels)} training images; count from 0"
        )
    return tuple(map(str, range(count)))
