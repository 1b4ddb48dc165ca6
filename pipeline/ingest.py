"""x_0: a data set, decoded and resized once, in the order that every later store keeps."""

import hashlib
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from cache import CodecChoice, CodecName, choose_codec, drop_journal, packed_bytes, read_summary, sync
from pipeline.bad_images import BAD_IMAGES, printable, write_skipped
from pipeline.config import Config, budget_bytes
from pipeline.data_info import X_0, DataInfo, check_crop, check_same_data, read_data_info
from pipeline.disk import StoreSize, check_room, store_size
from pipeline.errors import RefusedError
from pipeline.footprint import CODED, KEY, RATIO, unwritten_split
from pipeline.image_store import image_writer
from pipeline.outline import Outline
from pipeline.owner import check_ingests_itself
from pipeline.probe import find_channels, find_side
from pipeline.progress import Reporter
from pipeline.sealed import seal, write_sealed
from pipeline.shapes import network_shapes
from pipeline.sieve import Sieve
from pipeline.sources import Source, open_source
from pipeline.splits import split_indices
from pipeline.stopping import never


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
        sync(run_folder)  # who put x_0 in place may have been killed before its name was durable
        for split in info.samples:  # which a power cut right after the commit may bring back
            drop_journal(run_folder / X_0 / split)
        return info
    check_ingests_itself(run_folder)
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
    channels = config.data.channels or find_channels(source)
    side = config.data.canvas or find_side(source)
    check_crop(config, side)
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
            write_skipped(self.folder, bad)
        pixels = len(kept["train"]) * sieve.side**2
        mean = self.sums[0] / pixels
        variance = self.sums[1] / pixels - mean**2
        tested = self.source.test.labels[kept["test"]]
        return self._info(
            samples={name: len(ids) for name, ids in kept.items()},
            class_counts=np.bincount(tested, minlength=len(self.source.classes)).tolist(),
            mean=(mean / 255).tolist(),
            std=(np.sqrt(np.maximum(variance, 1)) / 255).tolist(),  # at least a grey level: constant images stay finite
            digest=self.digest.hexdigest(),
            tables={name: read_summary(self.folder / name).table_crc32c for name in kept},
            skipped=dict(Counter(image.split for image in bad)),
        )

    def _info(self, **found: Any) -> DataInfo:
        """The record, with what is known beforehand and what was `found`."""
        return DataInfo(
            data=self.config.data,
            classes=list(self.source.classes),
            channels=self.sieve.channels,
            side=self.sieve.side,
            run=self.config.order.run,
            **found,
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
            image_writer(
                self.folder / name,
                self.config.data,
                name,
                samples=len(ids),
                channels=sieve.channels,
                side=sieve.side,
                run=self.config.order.run,
                codec=self._codec(name, ids),
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
        sieve = self.sieve
        check_room(
            "x_0",
            self.folder.parent,
            sum(map(self._size, sieve.splits), StoreSize(0, 0, rest=self._record_bytes())),
            lambda: self._codec("train", sieve.splits["train"]),
            lambda: self._first_images("train", sieve.splits["train"]),
            budget=budget_bytes(self.config.budget.disk),
            remedy=lambda: "make room, or take a smaller data.canvas, or store.codec = zstd; then the same command",
        )

    def _size(self, name: str) -> StoreSize:
        """What a split takes before compression; at most, with all its images, where bad ones are left out."""
        sieve, ids, own = self.sieve, self.sieve.splits[name], self.config.store.codec
        rows = {} if sieve.skip_bad else {name: (packed_bytes(sieve.split(name).labels[ids]), packed_bytes(ids))}
        outline = Outline(
            config=self.config,
            channels=sieve.channels,
            side=sieve.side,
            classes=len(self.source.classes),
            samples={name: len(ids)},
            shapes=[],
            rows=rows,
        )
        whole = unwritten_split(outline, 0, name, {}, CODED if own == "auto" else own)
        size = store_size(samples=len(ids), views=1, sample_bytes=outline.sample_bytes(0), run=self.config.order.run)
        return replace(size, rest=whole.nbytes - size.nbytes)

    def _record_bytes(self) -> int:
        """What ingest.json takes at most."""
        sieve, samples = self.sieve, {name: len(ids) for name, ids in self.sieve.splits.items()}
        widest = self._info(
            samples=samples,
            class_counts=[samples["test"]] * len(self.source.classes),
            mean=[RATIO] * sieve.channels,
            std=[RATIO] * sieve.channels,
            digest=KEY,
            tables=dict.fromkeys(samples, 2**32 - 1),
            skipped=samples if sieve.skip_bad else {},
        )
        return len(seal(widest))

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
            self.report.say(f"x_0 codec {self.choice.codec}: {self.choice.measured}")
        return self.choice.codec
