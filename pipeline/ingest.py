"""x_0: a data set, decoded and resized once, in the order that every later store keeps."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cache import CodecChoice, CodecName, StoreWriter, choose_codec, replace_file
from pipeline.config import Config, Data
from pipeline.disk import StoreSize, check_room, store_size
from pipeline.draws import Purpose, draw, permutation
from pipeline.errors import ConfigError, CorruptDataError, RefusedError
from pipeline.progress import Reporter
from pipeline.shapes import network_shapes
from pipeline.sources import Source, Split, open_source

X_0 = "x_0"
GREY_MODES = ("1", "L", "LA", "La")
BAD_SHOWN = 10


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


def read_data_info(run_folder: Path) -> DataInfo | None:
    """The record of the ingested data, or None where nothing was ingested."""
    try:
        return msgspec.json.decode((run_folder / X_0 / "ingest.json").read_bytes(), type=DataInfo)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptDataError(
            f"{run_folder / X_0 / 'ingest.json'} is damaged: {error}\nnext: delete {run_folder / X_0} and ingest again"
        ) from error


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


def ingest(config: Config, run_folder: Path, report: Reporter) -> DataInfo:
    """Write x_0 of every split; what is already there is kept.

    Raises ConfigError, CorruptDataError with every bad image, or RefusedError where x_0 is of other data.
    """
    info = read_data_info(run_folder)
    if info is not None:
        check_same_data(info, config, run_folder)
        return info
    if (run_folder / X_0).exists():
        raise RefusedError(
            f"{run_folder / X_0} has no ingest.json: it is not the x_0 of a finished ingest\n"
            f"next: move it away and ingest again"
        )
    source = open_source(config.data.source)
    channels = config.data.channels or _channels(source)
    side = config.data.canvas or _side(source)
    _check_crop(config, side)
    network_shapes(config, channels=channels, image_side=side)  # before hours of decoding
    partial = run_folder / f"{X_0}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        info = _Ingest(config, source, channels, side, partial, report).run()
        replace_file(partial / "ingest.json", msgspec.json.format(msgspec.json.encode(info)))
        partial.rename(run_folder / X_0)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
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
    def __init__(
        self, config: Config, source: Source, channels: int, side: int, folder: Path, report: Reporter
    ) -> None:
        self.config = config
        self.source = source
        self.channels = channels
        self.side = side
        self.folder = folder
        self.report = report
        self.bad: list[str] = []
        self.choice: CodecChoice | None = None
        self.digest = hashlib.sha256("\n".join(source.classes).encode())
        self.sums = np.zeros((2, channels))

    def run(self) -> DataInfo:
        splits = split_indices(self.source, self.config.data)
        self._check_room(splits)
        for name, ids in splits.items():
            self._write(name, self.source.test if name == "test" else self.source.train, ids)
        if self.bad:
            raise CorruptDataError(self._bad_images())
        pixels = len(splits["train"]) * self.side**2
        mean = self.sums[0] / pixels
        variance = self.sums[1] / pixels - mean**2
        return DataInfo(
            data=self.config.data,
            classes=list(self.source.classes),
            channels=self.channels,
            side=self.side,
            samples={name: len(ids) for name, ids in splits.items()},
            class_counts=np.bincount(self.source.test.labels, minlength=len(self.source.classes)).tolist(),
            mean=(mean / 255).tolist(),
            std=(np.sqrt(np.maximum(variance, 1)) / 255).tolist(),  # at least a grey level: constant images stay finite
            run=self.config.order.run,
            digest=self.digest.hexdigest(),
        )

    def _write(self, name: str, split: Split, ids: NDArray[np.int64]) -> None:
        run = self.config.order.run
        labels = split.labels[ids]
        self.digest.update(name.encode() + labels.astype("<i8").tobytes() + ids.astype("<i8").tobytes())
        threads = self.config.machine.threads
        with (
            StoreWriter(
                self.folder / name,
                views=1,
                samples=len(ids),
                sample_shape=(self.channels, self.side, self.side),
                encoding="identity",
                codec=self._codec(split, ids),
                run=run,
                threads=threads,
            ) as writer,
            ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
            self.report.task(f"ingest {name}", len(ids)) as task,
        ):
            for first in range(0, len(ids), run):
                images = list(pool.map(lambda i: self._image(split, int(i)), ids[first : first + run]))
                task.update(min(first + run, len(ids)))
                if self.bad:
                    continue  # only to find the others
                x = np.stack([image for image in images if image is not None])
                self.digest.update(x.tobytes())
                if name == "train":
                    numbers = x.astype(np.float64)
                    self.sums += np.stack([numbers.sum((0, 2, 3)), (numbers**2).sum((0, 2, 3))])
                writer.write(0, first, x)
            if not self.bad:
                writer.commit(y=labels, sample_id=ids, attributes={"split": name, "index": 0})

    def _check_room(self, splits: dict[str, NDArray[np.int64]]) -> None:
        """Raise DiskError where the disk has no room for the images, decoded and packed."""
        run, sample_bytes = self.config.order.run, self.channels * self.side**2
        sizes = (store_size(samples=len(ids), views=1, sample_bytes=sample_bytes, run=run) for ids in splits.values())
        train = self.source.train, splits["train"]
        check_room(
            "x_0",
            self.folder.parent,
            sum(sizes, StoreSize(0, 0)),
            lambda: self._codec(*train),
            lambda: self._first_images(*train),
            remedy="make room, or take a smaller data.canvas, or store.codec = zstd; then the same command",
        )

    def _first_images(self, split: Split, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The first run of images, those left out that are bad: they are found again when their turn comes."""
        images = [self._image(split, int(i)) for i in ids[: self.config.order.run]]
        self.bad.clear()
        return np.stack([image for image in images if image is not None] or [np.zeros((1, 1, 1), np.uint8)])

    def _codec(self, split: Split, ids: NDArray[np.int64]) -> CodecName:
        """The config's codec; for "auto" the one that suits the first images and the disk, the same for all splits."""
        if self.config.store.codec != "auto":
            return self.config.store.codec
        if self.choice is None:
            chunk = self._first_images(split, ids)
            self.choice = choose_codec(chunk, self.folder.parent, threads=self.config.machine.threads)
            self.report.say(f"x_0 codec {self.choice.codec}: {self.choice.reason}")
        return self.choice.codec

    def _image(self, split: Split, i: int) -> NDArray[np.uint8] | None:
        """Image i as (C, side, side), or None with the reason in `bad`."""
        try:
            image = split.load(i)
            return to_canvas(image, self.side, self.channels, resize=self.config.data.canvas > 0)
        except Exception as error:  # a decoder raises anything; every image is named, whatever ails it
            self.bad.append(f"{split.name(i)}: {error or type(error).__name__}")
            return None

    def _bad_images(self) -> str:
        shown = sorted(self.bad)
        more = f"\n  and {len(shown) - BAD_SHOWN} more" if len(shown) > BAD_SHOWN else ""
        return (
            f"{len(shown)} bad image{'s' * (len(shown) > 1)} in {self.config.data.source}, nothing was written:\n"
            + "\n".join(f"  {line}" for line in shown[:BAD_SHOWN])
            + more
        )


def to_canvas(image: Image.Image, side: int, channels: int, *, resize: bool) -> NDArray[np.uint8]:
    """An image as (channels, side, side) uint8: shorter side resized to `side`, then the centre.

    Raises ValueError where it has another size and is not to be resized, or does not have these channels.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{image.mode!r} images, of more than 8 bits, are not supported")
    if channels == 1 and image.mode not in GREY_MODES:
        raise ValueError(f"a colour image ({image.mode}) among grey ones; set data.channels = 3")
    if resize and image.size != (side, side):
        shorter = min(image.size)
        left, top = ((length - shorter) / 2 for length in image.size)
        centre = (left, top, left + shorter, top + shorter)  # cut first: the longer side may be very long
        image = image.convert("RGB" if channels == 3 else "L").resize((side, side), Image.Resampling.BILINEAR, centre)
    if image.size != (side, side):
        width, height = image.size
        raise ValueError(f"{width}x{height} pixels where {side}x{side} are expected; set data.canvas to resize")
    pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"), np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


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
        raise CorruptDataError(f"none of the images tried can be read, among them {source.train.name(0)}")
    return images


def _channels(source: Source) -> int:
    return 1 if all(image.mode in GREY_MODES for image in _probe(source)) else 3


def _side(source: Source) -> int:
    sizes: set[Any] = {image.size for image in _probe(source)}
    if len(sizes) > 1 or len({*next(iter(sizes))}) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:3])
        raise ConfigError(f"images are not all squares of one size ({shown}); set data.canvas to the side to resize to")
    return int(next(iter(sizes))[0])
