"""Small run folders on real digits for tests of whole stages, and an epoch of one."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.config_file import load_config
from pipeline.ingest import ingest
from pipeline.metrics import EpochRecord
from pipeline.presets import write_preset
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from tests.images import arrays, npz

SMALL = (
    "network.width=8",
    "head.k=2",
    "head.width=8",
    "train.epochs=2",
    "augment.views=2",
    "train.lr_drop_every=1",
    "store.codec=lz4",  # "auto" goes by measured speeds, and the bytes of a store with it
)


def digits_run(folder: Path, *settings: str) -> RunFolder:
    """An ingested run folder of a three-stage network on digits, two epochs a stage."""
    write_preset("digits", folder, [*SMALL, *with_views(settings)])
    ingest(load_config(folder), folder, Reporter())
    return reopened(folder)


TINY = (
    "network.stages=2",
    "network.width=4",
    "head.width=4",
    "train.batch_size=8",
    "order.run=8",
    "order.window=16",
)


def tiny_run(folder: Path, *settings: str) -> RunFolder:
    """An ingested run folder of two stages on 27 images: two epochs of three steps, and three images left over."""
    folder.mkdir(parents=True)
    source = npz(folder / "images.npz", **arrays(train=30))
    return digits_run(folder, f"data.source={source}", *TINY, *settings)


def copied(run: RunFolder, folder: Path, *settings: str) -> RunFolder:
    """The same run folder at another place."""
    shutil.copytree(run.path, folder)
    return reopened(folder, *settings)


def reopened(folder: Path, *settings: str) -> RunFolder:
    """The run folder as a new command would see it, with `--set` settings."""
    return RunFolder(folder, load_config(folder, with_views(settings)))


def with_views(settings: Sequence[str]) -> Sequence[str]:
    """Settings; where they take a policy without views, these are left at their default."""
    policies = [setting for setting in settings if setting.startswith("augment.policy=")]
    return settings if not policies or "views" in policies[-1] else (*settings, "augment.views=4")


def epoch_record(epoch: int) -> EpochRecord:
    """The metrics of an epoch, made up."""
    return EpochRecord(
        epoch=epoch,
        lr=0.1,
        train_loss=1 / 3,
        train_accuracy=50.0,
        validation_accuracy=None,
        images_per_second=1e3,
        wait_share=0.1,
        peak_memory_bytes=10,
        seconds=0.1,
    )


def bytes_of(run: RunFolder, j: int) -> dict[str, bytes]:
    """Every byte a stage leaves, but for the times in its records."""
    folder = run.stages[j].path
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("stage.json", "metrics.jsonl")
    }
