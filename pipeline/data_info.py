"""What is known of x_0, beside its stores, and whether a config is of the same images."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from cache import Fingerprint, StoreError, Summary, read_summary
from pipeline.config import Config, Data
from pipeline.errors import ConfigError, CorruptDataError, RefusedError
from pipeline.owner import X_0 as X_0
from pipeline.owner import images_again
from pipeline.sealed import read_sealed

SPLITS = ("train", "validation", "test")
CHANNELS = (1, 3)
Positive = Annotated[int, Meta(ge=1)]


class DataInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of x_0: the record beside its stores."""

    data: Data
    """The section of the config that it was made from."""
    classes: Annotated[list[str], Meta(min_length=1)]
    """Name of each label."""
    channels: Positive
    """1 or 3."""
    side: Positive
    """Height and width of the stored canvas, in pixels."""
    samples: dict[str, Positive]
    """Split -> number of images. Splits are train, test and, where a share is held out, validation."""
    class_counts: list[int]
    """Test images of each class."""
    mean: list[float]
    """Of each channel over the training images, in 0..1."""
    std: list[Annotated[float, Meta(gt=0)]]
    """Of each channel over the training images, in 0..1."""
    run: Positive
    """The config's order.run when it was ingested; its chunks are divisors of that."""
    digest: str
    """SHA-256 over the images, labels and sample ids of all splits in stored order."""
    tables: dict[str, int]
    """Split -> checksum of the chunk table of its store, by which the store that belongs here is known."""
    skipped: dict[str, int] = {}
    """Split -> number of bad images left out of it, of those that lack any; which and why is in skipped.jsonl."""


def read_data_info(run_folder: Path) -> DataInfo | None:
    """The record of the ingested data, or None where nothing was ingested."""
    x_0 = run_folder / X_0
    path, remedy = x_0 / "ingest.json", images_again(run_folder)
    info = read_sealed(path, DataInfo, remedy=remedy)
    if info is not None and (fault := _fault(info)):
        raise CorruptDataError(f"{path} is damaged: {fault}\nnext: {remedy}")
    return info


def _fault(info: DataInfo) -> str:
    """What in a record does not fit the rest of it, or ""."""
    if info.channels not in CHANNELS:
        return f"channels = {info.channels}, expected 1 or 3"
    if not {"train", "test"} <= info.samples.keys() <= {*SPLITS} or info.tables.keys() != info.samples.keys():
        return f"it has images of {', '.join(info.samples)}, and tables of {', '.join(info.tables)}"
    for name, expected in (("mean", info.channels), ("std", info.channels), ("class_counts", len(info.classes))):
        if (found := len(getattr(info, name))) != expected:
            return f"{name} has {found} numbers, expected {expected}"
    return ""


def x_0_fingerprint(data: Data, split: str) -> Fingerprint:
    """What determined x_0 of a split, for its store to be known by."""
    return {"index": 0, "split": split, "encoding": "identity", "data": msgspec.to_builtins(data)}


def check_same_data(info: DataInfo, config: Config, run_folder: Path) -> None:
    """Raise RefusedError where x_0 was made from another [data] section, or for other runs, than the config now has.

    And ConfigError where the config now crops more than its images hold.
    """
    made, now = msgspec.to_builtins(info.data), msgspec.to_builtins(config.data)
    changed = [
        f"data.{name} = {made[name]!r} (now {now[name]!r})"
        for name in made
        if (made[name] != now[name] if name != "source" else moved_name(made[name]) != moved_name(now[name]))
    ]
    if changed:
        raise RefusedError(
            f"x_0 of {run_folder} was ingested with {', '.join(changed)}\n"
            f"next: set it back, start another run folder, or {images_again(run_folder)}"
        )
    if config.order.run % info.run:
        raise RefusedError(
            f"x_0 of {run_folder} was ingested with order.run = {info.run}; "
            f"order.run = {config.order.run} is no multiple\n"
            f"next: take a multiple, or {images_again(run_folder)}"
        )
    check_crop(config, info.side)


def check_images(info: DataInfo, run_folder: Path, split: str, found: Summary) -> None:
    """Raise CorruptDataError where the store of a split, whole as it is, is not the one that was ingested.

    Another ingest of the same [data] section, of other images at the same address, has the same fingerprint.
    """
    if found.table_crc32c != info.tables[split]:
        raise CorruptDataError(
            f"{run_folder / X_0 / split} is whole, but not the {split} images that were ingested here\n"
            f"next: put those back, or {images_again(run_folder)}"
        )


def check_all_images(info: DataInfo, run_folder: Path) -> None:
    """The same of every split; a store that is missing or damaged is left to whoever reads it."""
    for split in info.samples:
        with suppress(StoreError):
            check_images(info, run_folder, split, read_summary(run_folder / X_0 / split))


def moved_name(address: str) -> tuple[str, str]:
    """What of an address stays when its file is moved: the images themselves are in x_0."""
    scheme, _, place = address.partition(":")
    return scheme, Path(place).name


def check_crop(config: Config, side: int) -> None:
    """Raise ConfigError where the config crops more than images of this side hold."""
    if config.augment.crop > side:
        raise ConfigError(f"augment.crop = {config.augment.crop} is larger than the images, {side}x{side}")
