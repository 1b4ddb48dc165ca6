"""How well runs and windows mix, against a full shuffle: no files, no training.

    python -m tests.benchmarks.shuffle --samples 45000 --run 128 --window 2048

Two measures over the batches of an epoch. Spread: how far apart in the store two successive samples of a batch lie, as
a share of what a full shuffle gives on average (1 is a full shuffle, 0 stored order), and by how much the nearest tenth
falls short. Balance: standard deviation of a class's share in a batch, relative to a full shuffle's, for a store in
random order, as ingest leaves it, and for one sorted by class, as a folder would be read.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cache import Indices, in_batches
from pipeline.order import training_windows
from tests.benchmarks import machine

BATCH = 128
CLASSES = 10


def batches(samples: int, run: int, window: int, epoch: int) -> Iterator[Indices]:
    """Rows of each full batch of an epoch."""
    windows = training_windows(samples, run=run, window=window, views=1, seed=0, stage=0, epoch=epoch)
    return (rows for rows, _ in in_batches(windows, BATCH) if len(rows) == BATCH)


def measures(all_batches: list[Indices], labels: dict[str, Indices]) -> dict[str, float]:
    """Mean and first decile of the distance of successive samples; deviation of a class's share, by store order."""
    distance = np.concatenate([np.abs(np.diff(rows)) for rows in all_batches])
    found = {"distance": float(distance.mean()), "first decile": float(np.quantile(distance, 0.1))}
    for name, y in labels.items():
        shares = [np.bincount(y[rows], minlength=CLASSES) / BATCH for rows in all_batches]
        found[name] = float(np.std(shares, axis=0).mean())
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=45_000)
    parser.add_argument("--run", type=int, default=128)
    parser.add_argument("--window", type=int, nargs="+", default=[128, 512, 2048, 8192])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments = parser.parse_args(argv)
    if arguments.samples < BATCH:
        parser.error(f"--samples {arguments.samples}: a batch alone takes {BATCH}")
    samples, rng = arguments.samples, np.random.default_rng(0)
    ordered = np.arange(samples) * CLASSES // samples
    labels = {"random store": rng.permutation(ordered), "sorted store": ordered}
    shuffled = [
        rng.permutation(samples)[: samples // BATCH * BATCH].reshape(-1, BATCH) for _ in range(arguments.epochs)
    ]
    full = measures([rows for epoch in shuffled for rows in epoch], labels)
    found = {}
    for window in arguments.window:
        epochs = (batches(samples, min(arguments.run, window), window, epoch) for epoch in range(arguments.epochs))
        found[window] = measures([rows for epoch in epochs for rows in epoch], labels)
    rows = [[f"{window:,}", *(f"{value / full[name]:.3f}" for name, value in f.items())] for window, f in found.items()]
    machine.print_table(["window", *full], rows)
    print(f"full shuffle: {', '.join(f'{name} {value:,.4g}' for name, value in full.items())}")
    if arguments.json:
        record = {"machine": machine.record(), "samples": samples, "run": arguments.run}
        machine.write_json(arguments.json, {**record, "full": full, "windows": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
