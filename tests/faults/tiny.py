"""A run of three stages that takes a fraction of a second, and what of its folder no fault may change."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from pipeline.lock import HOLDER
from pipeline.presets import write_preset

TRAIN, TEST = 48, 20
SETTINGS = (
    "network.width=4",
    "head.k=1",
    "data.validation=0.25",
    "augment.views=2",
    "train.epochs=1",
    "train.batch_size=16",
    "order.run=8",  # a chunk each: five a view, the last of them in part
    "order.window=24",
    "store.encoding=uint8",
    "store.codec=lz4",
    "stages.0.store.codec=none",  # chunks of one length
    "stages.1.store.codec=zstd",
    "machine.checkpoint_minutes=0",  # after every step
    "machine.threads=1",
)
VOLATILE = {
    "seconds",
    "images_per_second",
    "wait_share",
    "wait_by_cause",
    "peak_memory_bytes",
    "sessions",
    "metrics",
    "sha256",
    "crc32c",
}
"""Fields of records that a second run of the same has others of: times, memory, and checksums over those."""
LOCK = ".lock"
Digest = dict[str, str]
"""Path in the run folder -> hash of what is to be equal there."""


def write_source(path: Path) -> None:
    """Write an npz file of a few handwritten digits."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    np.savez(
        path,
        train_images=images[:TRAIN],
        train_labels=labels[:TRAIN],
        test_images=images[TRAIN : TRAIN + TEST],
        test_labels=labels[TRAIN : TRAIN + TEST],
    )


def write_config(folder: Path, source: Path, *settings: str) -> None:
    """Make a run folder in which nothing was run yet."""
    write_preset("digits", folder, [f"data.source=npz:{source}", *SETTINGS, *settings])


def digest(folder: Path) -> Digest:
    """Every file of a run folder but the lock, with a hash of its bytes, or of a record's fields that do not vary.

    A file that a whole run does not leave is a difference too: temporary files, journals and checkpoints are litter.
    """
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in files:
            path = Path(parent, name)
            if path not in (folder / LOCK, folder / HOLDER):  # one that is left names a process that is gone
                found[str(path.relative_to(folder))] = sha256(_lasting(path)).hexdigest()
        if not files and not folders:
            found[str(Path(parent).relative_to(folder))] = "an empty folder"
    return found


def differences(expected: Digest, found: Digest) -> list[str]:
    """What is missing, what should not be there, and what is other than expected."""
    return [
        *(f"{name} is missing" for name in sorted(expected.keys() - found.keys())),
        *(f"{name} is left over" for name in sorted(found.keys() - expected.keys())),
        *(f"{name} differs" for name in sorted(expected.keys() & found.keys()) if expected[name] != found[name]),
    ]


def _lasting(path: Path) -> bytes:
    data = path.read_bytes()
    if path.name == "metrics.jsonl":
        return json.dumps([_without_volatile(json.loads(line)) for line in data.splitlines()]).encode()
    if path.name == "stage.json":
        return json.dumps(_without_volatile(json.loads(data))).encode()
    return data


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_volatile(inner) for key, inner in value.items() if key not in VOLATILE}
    return [_without_volatile(inner) for inner in value] if isinstance(value, list) else value
