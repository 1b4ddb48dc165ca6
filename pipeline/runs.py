"""Whole commands: ingest with its summary, and a range of stages in turn."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from cache import BudgetError, element_bytes
from cascade import StageShape
from pipeline.config import Config
from pipeline.device import choose_device
from pipeline.errors import ConfigError
from pipeline.ingest import X_0, ingest, read_data_info
from pipeline.lock import lock_folder
from pipeline.progress import Reporter, size
from pipeline.runfolder import RunFolder, store_bytes
from pipeline.training import train_stage


def ingest_data(config: Config, run_folder: Path, report: Reporter) -> None:
    """Write x_0 unless it is there, and say what it holds."""
    fresh = read_data_info(run_folder) is None
    with lock_folder(run_folder, "ingest"):
        info = ingest(config, run_folder, report)
    images = ", ".join(f"{count:,} {split}" for split, count in info.samples.items())
    stored = sum(store_bytes(run_folder / X_0 / split) for split in info.samples)
    report.say(
        f"x_0: {images} images of {info.channels}x{info.side}x{info.side}, {len(info.classes)} classes, "
        f"{size(stored)} {'ingested' if fresh else 'there already, not read again,'} from {info.data.source}"
    )
    if 0 < config.augment.crop < info.side:
        report.say(f"stages see windows of {config.augment.crop}x{config.augment.crop} of them (augment.crop)")


def run_stages(run: RunFolder, first: int | None, last: int | None, device_name: str | None, report: Reporter) -> None:
    """Train stages first..last, by default all, skipping what is done; one alone also writes a store that is gone."""
    stages = len(run.stages)
    first, last = 0 if first is None else first, stages - 1 if last is None else last
    for j in (first, last):
        run.check_stage(j)
    if first > last:
        raise ConfigError(f"--from {first} --to {last}: nothing lies between")
    info = run.info
    check_host_memory(run.config, run.shapes, channels=info.channels, side=info.side, samples=info.samples["train"])
    if any(stage.record is None for stage in run.stages[first : last + 1]):
        free = shutil.disk_usage(run.path).free
        report.say(f"stores past the images: at most {size(kept_bytes(run))} before compression; {size(free)} are free")
    device = choose_device(run.config.machine.device if device_name is None else device_name)
    for j in range(first, last + 1):
        with lock_folder(run.path, f"stage {j}"):
            if not train_stage(run, j, device, report, output_asked_for=first == last):
                report.say(f"stage {j}  done already")


def kept_bytes(run: RunFolder) -> int:
    """Bytes of all x_j, j >= 1, that the config keeps, over all splits and views, before compression."""
    config, samples = run.config, run.info.samples
    rows = sum(count * (config.augment.stored_views if split == "train" else 1) for split, count in samples.items())
    return sum(
        rows * math.prod(shape.output) * element_bytes(config.for_stage(shape.j).store.encoding)
        for shape in run.shapes
        if config.keeps(shape.j + 1)
    )


def check_host_memory(config: Config, shapes: Sequence[StageShape], *, channels: int, side: int, samples: int) -> None:
    """Raise BudgetError, before hours are spent, where windows of a store to come will not fit in the host memory.

    `channels` and `side` are those of the stored images, `samples` the number of training samples.
    """
    sample_bytes = {0: channels * side**2}
    for shape in shapes[:-1]:
        if config.keeps(shape.j + 1):
            itemsize = element_bytes(config.for_stage(shape.j).store.encoding)
            sample_bytes[shape.j + 1] = math.prod(shape.output) * itemsize
    worst = max(sample_bytes, key=sample_bytes.__getitem__)
    window = min(config.order.window, samples)
    needed = 2 * window * sample_bytes[worst]
    if needed > config.host_memory_bytes:
        raise BudgetError(
            f"two windows of {window} samples of x_{worst} need {size(needed)} of host memory, and machine.host_memory "
            f"is {config.machine.host_memory}"
        )
