"""What a stage takes beside its samples: files opened, synced and renamed, an epoch begun, a store committed.

A tiny network is really trained on a few images of noise, in the run folder, by what trains there.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from rich.console import Console

from cache import TRIAL
from pipeline.config import (
    Augment,
    Cache,
    Config,
    Data,
    HeadSection,
    NetworkSection,
    Order,
    StageOverrides,
    StoreSection,
    Train,
)
from pipeline.costs import blocks_read
from pipeline.ingest import ingest
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage

ROUNDS = 2
"""After one that warms up."""
TRAINED, EPOCHS = 3, 4
"""Stages that are timed, of one more, whose end would be another; and the epochs of the one in the middle."""
FEW = 8
"""Samples of a batch, of a run and of the smaller splits; pixels of a side; channels."""


@dataclass(frozen=True)
class Fixed:
    """Seconds, each on average."""

    stage: float
    """Of a stage that is begun, tested and recorded, and whose output's scale is taken."""
    block: float
    """Of reading a block of a prefix and its scale."""
    epoch: float
    """Of an epoch's beginning, its validation's, and what is kept on disk after it."""
    store: float
    """Of an x_j that is written, all splits."""


def fixed_seconds(folder: Path, config: Config, device: torch.device) -> Fixed:
    """Train without stores and with all of them, some times, and take the costs that explain the times best."""
    place = folder / TRIAL
    shutil.rmtree(place, ignore_errors=True)
    try:
        images = place / "images"
        images.mkdir(parents=True)
        tiny = _tiny(config, _noise(place / "noise.npz"))
        ingest(tiny, images, _silent())
        _times(tiny, images, place / "run", device)
        rows = [
            row
            for _ in range(ROUNDS)
            for keep in ("none", "all")
            for row in _times(_keeping(tiny, keep), images, place / "run", device)
        ]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    counts, seconds = np.array([row[:-1] for row in rows], float), np.array([row[-1] for row in rows])
    return Fixed(*np.maximum(np.linalg.lstsq(counts, seconds)[0], 0.0).tolist())


def _times(config: Config, images: Path, folder: Path, device: torch.device) -> list[tuple[float, ...]]:
    """Of each stage how often it pays what is in `Fixed`, and its seconds."""
    shutil.copytree(images, folder)
    try:
        run = RunFolder(folder, config)
        rows: list[tuple[float, ...]] = []
        for j in range(TRAINED):
            anchor, epochs = run.anchor(j), config.for_stage(j).train.epochs
            began = time.perf_counter()
            train_stage(run, j, device, _silent())
            seconds = time.perf_counter() - began
            rows.append((1, int(blocks_read(anchor, j, scaled=True)), epochs, run.config.keeps(j + 1), seconds))
    finally:
        shutil.rmtree(folder)
    return rows


def _tiny(config: Config, source: str) -> Config:
    """A network of next to nothing, under the machine's settings and budgets of a config."""
    return Config(
        data=Data(source=source, validation=0.5 if config.data.validation else 0),
        network=NetworkSection(stages=TRAINED + 1, width=FEW, precision=config.network.precision),
        head=HeadSection(k=1, width=FEW),
        augment=Augment(policy="none"),
        train=Train(epochs=1, batch_size=FEW, lr=1e-3),
        order=Order(run=FEW, window=2 * FEW),
        store=StoreSection(codec="none"),
        cache=Cache(keep="none"),
        machine=msgspec.structs.replace(config.machine, compile=False, micro_batch=0),
        budget=config.budget,
        stages={"1": StageOverrides(train={"epochs": EPOCHS})},
    )


def _keeping(config: Config, keep: str) -> Config:
    return msgspec.structs.replace(config, cache=msgspec.structs.replace(config.cache, keep=keep))


def _noise(path: Path) -> str:
    """Some batches of images of noise, in two classes; their address."""
    random = np.random.default_rng(0)
    entries: dict[str, Any] = {}
    for split, count in (("train", 4 * FEW), ("test", FEW)):
        entries[f"{split}_images"] = random.integers(0, 256, (count, FEW, FEW), np.uint8)
        entries[f"{split}_labels"] = np.arange(count) % 2
    np.savez(path, **entries)
    return f"npz:{path}"


def _silent() -> Reporter:
    return Reporter(Console(quiet=True))
