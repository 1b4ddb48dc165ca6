"""x_0: a data set, decoded and resized once, in the order that every later store keeps."""

import hashlib
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from cache import CodecChoice, CodecName, Fingerprint, StoreWriter, choose_codec, drop_journal, sync
from pipeline.bad_images import BAD_IMAGES, SKIPPED, printable, write_bad_images
from pipeline.config import Config, Data
from pipeline.disk import StoreSize, check_room, store_size
from pipeline.draws import Purpose, draw, permutation
from pipeline.errors import ConfigError, CorruptDataError, RefusedError
from pipeline.images import GREY_MODES
from pipeline.progress import Reporter
from pipeline.sealed import read_sealed, write_sealed
from pipeline.shapes import network_shapes
from pipeline.sieve import Sieve
from pipeline.sources import Source, open_source
from pipeline.stopping import never

X_0 = "x_0"


class DataInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of x_0: the record beside its stores."""

    data: Data
    """The section of the config that it was made from."""
    classes: list[str]
    """Name of each label."""
    channels: int
    """1 or 3."""
    side: int
    """Height and width of the stored canvas, in pixels."""
    samples: dict[str, int]
    """Split -> number of images. Splits are train, test and, where a share is held out, validation."""
    class_counts: list[int]
    """Test images of each class."""
    mean: list[float]
    """Of each channel over the training images, in 0..1."""
    std: list[float]
    """Of each channel over the training images, in 0..1."""
    run: int
    """The config's order.run when it was ingested; its chunks are divisors of that."""
    digest: str
    """SHA-256 over the images, labels and sample ids of all splits in stored order."""
    skipped: dict[str, int] = {}
    """Split -> number of bad images left out of it, of those that lack any; which and why is in skipped.jsonl."""


def read_data_info(run_folder: Path) -> DataInfo | None:
    """The record of the ingested data, or None where nothing was ingested."""
    x_0 = run_folder / X_0
    return read_sealed(x_0 / "ingest.json", DataInfo, remedy=f"delete {x_0} and ingest again")


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
        if (made[name] != now[name] if name != "source" else _moved_name(made[name]) != _moved_name(now[name]))
    ]
    if changed:
        raise RefusedError(
            f"x_0 of {run_folder} was ingested with {', '.join(changed)}\n"
            f"next: set it back, start another run folder, or delete {run_folder / X_0} and ingest again"
        )
    if config.order.run % info.run:
        raise RefusedError(
            f"x_0 of {run_folder} was ingested with order.run = {info.run}; "
            f"order.run = {config.order.run} is no multiple\n"
            f"next: take a multiple, or delete {run_folder / X_0} and ingest again"
        )
    _check_crop(config, info.side)


def _moved_name(address: str) -> tuple[str, str]:
    """What of an address stays when its file is moved: the images themselves are in x_0."""
    scheme, _, place = address.partition(":")
    return scheme, Path(place).name


def _check_crop(config: Config, side: int) -> None:
    if config.augment.crop > side:
        raise ConfigError(f"augment.crop = {config.augment.crop} is larger than the images, {side}x{side}")


def ingest(
    config: Config,
    run_folder: Path,
    report: Reporter,
    *,
    skip_bad: bool = False,
    should_stop: Callable[[], bool] = never,
) -> DataInfo:
    """Write x_0 of every split; what is already there is kept.

    Damaged images are an error that lists them, or with `skip_bad` are left out and recorded.

    Raises ConfigError, CorruptDataError with every bad image, or RefusedError where x_0 is of other data; and Stopped
    at the next run of samples once `should_stop` says so.
    """
    info = read_data_info(run_folder)
    if info is not None:
        check_same_data(info, config, run_folder)
        for split in info.samples:  # which a power cut right after the commit may bring back
            drop_journal(run_folder / X_0 / split)
        return info
    if (run_folder / X_0).exists():
        raise RefusedError(
            f"{run_folder / X_0} has no ingest.json: it is not the x_0 of a finished ingest\n"
            f"next: move it away and ingest again"
        )
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RefusedError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set in this process: truncated images would go unnoticed\n"
            "next: set it to False"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of metadata, or of what is refused here anyway
        return _ingest_anew(config, run_folder, report, skip_bad, should_stop)


def _ingest_anew(
    config: Config, run_folder: Path, report: Reporter, skip_bad: bool, should_stop: Callable[[], bool]
) -> DataInfo:
    source = open_source(config.data.source)
    for note in source.notes:
        report.say(printable(note))
    channels = config.data.channels or channels_of(source)
    side = config.data.canvas or side_of(source)
    _check_crop(config, side)
    network_shapes(config, channels=channels, image_side=side)  # before hours of decoding
    splits = split_indices(source, config.data)
    sieve = Sieve(config, source, splits, channels, side, run_folder, report, skip_bad, should_stop)
    partial = run_folder / f"{X_0}.partial"
    if partial.is_symlink():
        partial.unlink()  # not to write to where it leads
    shutil.rmtree(partial, ignore_errors=True)
    try:
        info = _Ingest(config, source, sieve, partial, report).run()
        write_sealed(partial / "ingest.json", info)
        partial.rename(run_folder / X_0)
        sync(run_folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    (run_folder / BAD_IMAGES).unlink(missing_ok=True)
    return info


def split_indices(source: Source, data: Data) -> dict[str, NDArray[np.int64]]:
    """Sample ids of every split in stored order: training permuted, a share of each class held out, test as it is.

    At least one image of each class stays to train on. Raises ConfigError where the share is less than any image.
    """
    order = permutation(len(source.train.labels), data.seed, Purpose.INGEST_ORDER)
    labels = source.train.labels[order]
    held = np.zeros(len(order), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(round(data.validation * len(members)), len(members) - 1)
        rank = np.argsort(draw(data.seed, Purpose.HOLD_OUT, int(label), np.arange(len(members))), kind="stable")
        held[members[rank[:count]]] = True
    if data.validation and not held.any():
        largest = np.bincount(labels).max()
        raise ConfigError(
            f"data.validation = {data.validation} holds out no image: no class has more than {largest}; "
            f"take a larger share, or 0 to train without validation"
        )
    splits = {"train": order[~held], "validation": order[held], "test": np.arange(len(source.test.labels))}
    return {name: ids for name, ids in splits.items() if len(ids)}


class _Ingest:
    def __init__(self, config: Config, source: Source, sieve: Sieve, folder: Path, report: Reporter) -> None:
        self.config = config
        self.source = source
        self.sieve = sieve
        self.folder = folder
        self.report = report
        self.choice: CodecChoice | None = None
        self.digest = hashlib.sha256("\n".join(source.classes).encode())
        self.sums = np.zeros((2, sieve.channels))

    def run(self) -> DataInfo:
        sieve, kept = self.sieve, {}
        self._check_room()
        sieve.try_listed()
        if sieve.is_refused:
            raise sieve.refusal("of those that were bad before; nothing was written, the others not looked at again")
        for name in sieve.splits:
            if sieve.is_refused:
                sieve.look(name, sieve.splits[name])
            else:
                kept[name] = self._write(name)
        if sieve.is_refused:
            raise sieve.refusal("nothing was written")
        if bad := sieve.bad_images():
            write_bad_images(self.folder / SKIPPED, bad)
        pixels = len(kept["train"]) * sieve.side**2
        mean = self.sums[0] / pixels
        variance = self.sums[1] / pixels - mean**2
        tested = self.source.test.labels[kept["test"]]
        return DataInfo(
            data=self.config.data,
            classes=list(self.source.classes),
            channels=sieve.channels,
            side=sieve.side,
            samples={name: len(ids) for name, ids in kept.items()},
            class_counts=np.bincount(tested, minlength=len(self.source.classes)).tolist(),
            mean=(mean / 255).tolist(),
            std=(np.sqrt(np.maximum(variance, 1)) / 255).tolist(),  # at least a grey level: constant images stay finite
            run=self.config.order.run,
            digest=self.digest.hexdigest(),
            skipped=dict(Counter(image.split for image in bad)),
        )

    def _write(self, name: str) -> NDArray[np.int64]:
        """Write a split, once more where images turn out bad that are to be left out; the sample ids it then has.

        A store's size is said when it is begun, so what is bad has to be known by then.
        """
        while True:
            ids = self.sieve.kept(name)
            if self._write_whole(name, ids) or self.sieve.is_refused:
                return ids
            self.report.say(f"{len(self.sieve.bad[name]):,} bad images of {name}: decoding the others once more")

    def _write_whole(self, name: str, ids: NDArray[np.int64]) -> bool:
        """Write a split of these images and commit it; where one is bad only look for more, and say False."""
        sieve = self.sieve
        labels = sieve.split(name).labels[ids]
        digest, sums, known = self.digest.copy(), self.sums.copy(), len(sieve.bad[name])
        digest.update(name.encode() + labels.astype("<i8").tobytes() + ids.astype("<i8").tobytes())
        with (
            StoreWriter(
                self.folder / name,
                views=1,
                samples=len(ids),
                sample_shape=(sieve.channels, sieve.side, sieve.side),
                encoding="identity",
                codec=self._codec(name, ids),
                run=self.config.order.run,
                fingerprint=x_0_fingerprint(self.config.data, name),
                attributes={"split": name, "index": 0},
                threads=self.config.machine.threads,
            ) as writer,
            closing(sieve.decoded(name, ids)) as runs,
        ):
            for first, images in runs:
                if len(sieve.bad[name]) > known:
                    continue
                x = np.stack(images)
                digest.update(x.tobytes())
                if name == "train":
                    squares = np.square(x, dtype=np.uint16)
                    sums += np.stack([numbers.sum((0, 2, 3), dtype=np.uint64) for numbers in (x, squares)])
                writer.write(0, first, x)
            if len(sieve.bad[name]) > known:
                return False
            writer.commit(y=labels, sample_id=ids)
        self.digest, self.sums = digest, sums
        return True

    def _check_room(self) -> None:
        """Raise DiskError where the disk has no room for the images, decoded and packed."""
        sieve, run = self.sieve, self.config.order.run
        sample_bytes = sieve.channels * sieve.side**2
        sizes = (
            store_size(samples=len(ids), views=1, sample_bytes=sample_bytes, run=run) for ids in sieve.splits.values()
        )
        check_room(
            "x_0",
            self.folder.parent,
            sum(sizes, StoreSize(0, 0)),
            lambda: self._codec("train", sieve.splits["train"]),
            lambda: self._first_images("train", sieve.splits["train"]),
            remedy="make room, or take a smaller data.canvas, or store.codec = zstd; then the same command",
        )

    def _first_images(self, name: str, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The first run of images of a split, those left out that are bad."""
        images = [self.sieve.image(name, int(i)) for i in ids[: self.config.order.run]]
        whole = [image for image in images if not isinstance(image, Exception)]
        return np.stack(whole or [np.zeros((1, 1, 1), np.uint8)])

    def _codec(self, name: str, ids: NDArray[np.int64]) -> CodecName:
        """The config's codec; for "auto" the one that suits the first images and the disk, the same for all splits."""
        if self.config.store.codec != "auto":
            return self.config.store.codec
        if self.choice is None:
            chunk = self._first_images(name, ids)
            self.choice = choose_codec(chunk, self.folder.parent, threads=self.config.machine.threads)
            self.report.say(f"x_0 codec {self.choice.codec}: {self.choice.reason}")
        return self.choice.codec


def _probe(source: Source) -> list[Image.Image]:
    """A few images from all over the training set; damaged ones are left for the ingest to report."""
    count = len(source.train.labels)
    images = []
    for i in np.unique(np.linspace(0, count - 1, 32).astype(int)):
        try:
            images.append(source.train.load(int(i)))
        except Exception:
            continue
    if not images:
        raise CorruptDataError(f"none of the images tried can be read, among them {printable(source.train.name(0))}")
    return images


def channels_of(source: Source) -> int:
    """1 where all of a few images are grey, else 3. Raises CorruptDataError where none can be read."""
    return 1 if all(image.mode in GREY_MODES for image in _probe(source)) else 3


def side_of(source: Source) -> int:
    """The side of a few images. Raises ConfigError where they are not squares of one size, CorruptDataError."""
    sizes: set[Any] = {image.size for image in _probe(source)}
    if len(sizes) > 1 or len({*next(iter(sizes))}) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:3])
        raise ConfigError(f"images are not all squares of one size ({shown}); set data.canvas to the side to resize to")
    return int(next(iter(sizes))[0])
