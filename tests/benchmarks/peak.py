"""Predicted against measured peaks of device memory: of every stage of a preset, and of all that it does.

    python -m tests.benchmarks.peak --preset cifar10-k3 --micro-batches 32 128

Exits 1 where the prediction for a stage, the worst of what it does, is more than a tenth above or three hundredths
below. A small phase may be further below: oneDNN's copies of weights are not foreseen. `--side` and `--width` make a
network that a CPU has the patience for. On CUDA a prediction that is low everywhere by as much is the kernels'
workspace, which `pipeline.peak.WORKSPACE_BYTES` allows for.
"""

import argparse
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cascade import stage_shapes
from pipeline.config import Config
from pipeline.config_file import read_config
from pipeline.device import autocast_type, choose_device
from pipeline.ledger import Program, memory_of
from pipeline.measure import measured_peak
from pipeline.peak import WORKSPACE_BYTES, Work
from pipeline.presets import preset_text
from pipeline.programs import calibrating, evaluating, replaying, training, writing
from pipeline.progress import size
from tests.benchmarks import machine

BOUNDS = (0.97, 1.1)
"""Of the predicted over the measured."""
SIDES = {"cifar10": 32, "imagenet": 224}
"""Of the windows of a preset's images."""


def works(config: Config, *, side: int, width: int, classes: int, device: torch.device) -> list[Work]:
    """Every stage of a network, each with the block before it as its prefix."""
    own = config.network
    shapes = tuple(
        stage_shapes(
            stages=own.stages,
            in_channels=3,
            in_side=side,
            width=width or own.width,
            head_width=config.head.width * (width or own.width) // own.width,
            downsample_at=own.downsample_at,
            downsample=own.downsample,
            head_pool=config.head.pool,
        )
    )
    return [
        Work(
            shapes=shapes[: j + 1],
            anchor=max(j - 1, 0),
            k=config.head.k,
            classes=classes,
            batch_norm=own.batch_norm,
            pool=config.head.pool,
            dtype=autocast_type(device, own.precision),
            encodings=(config.store.encoding,) * (j + 1),
            batch_size=config.train.batch_size,
            run_samples=config.order.run,
            device_type=device.type,
        )
        for j in range(own.stages)
    ]


def phases(work: Work) -> dict[str, Callable[[], Program]]:
    """What a stage does, by name."""
    stage, near, fields = work.trained(), work.replayed(work.anchor), work.replayed(work.anchor, to="write")
    return {
        "training": lambda: training(stage),
        "checkpointed": lambda: training(replace(stage, recompute=True)),
        "replay": lambda: replaying(work.replayed(work.anchor, to="train")),
        "evaluation": lambda: evaluating(stage, near),
        "calibration": lambda: calibrating(stage, work.replayed(0), work.encodings[-1]),
        "write-back": lambda: writing(stage, fields, work.encodings[-1]),
    }


def stage_ratios(found: Sequence[dict[str, Any]]) -> list[float]:
    """Predicted over measured of each stage and micro-batch, the worst of what it does without checkpointing."""
    ratios = []
    for key in sorted({(row["j"], row["samples"]) for row in found}):
        own = [row for row in found if (row["j"], row["samples"]) == key and row["phase"] != "checkpointed"]
        ratios.append(max(row["predicted_bytes"] for row in own) / max(row["measured_bytes"] for row in own))
    return ratios


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cifar10-k3")
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[32])
    parser.add_argument("--side", type=int, default=0, help="of the images' windows; 0: the preset's")
    parser.add_argument("--width", type=int, default=0, help="of block 0; 0: the preset's")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments = parser.parse_args(argv)
    config = read_config(tomllib.loads(preset_text(arguments.preset)), where=arguments.preset)
    device, data = choose_device(arguments.device), arguments.preset.split("-")[0]
    side, classes = arguments.side or SIDES[data], 1000 if data == "imagenet" else 10
    found: list[dict[str, Any]] = []
    for work in works(config, side=side, width=arguments.width, classes=classes, device=device):
        for samples in arguments.micro_batches:
            for phase, make in phases(work).items():
                predicted = memory_of(make).peak(samples) + WORKSPACE_BYTES
                measured = measured_peak(make(), samples, device)
                row = {"j": len(work.shapes) - 1, "phase": phase, "samples": samples}
                found.append({**row, "predicted_bytes": predicted, "measured_bytes": measured})
    ratios = [row["predicted_bytes"] / row["measured_bytes"] for row in found]
    rows = []
    for row, ratio in zip(found, ratios, strict=True):
        sizes = [size(row[name]) for name in ("predicted_bytes", "measured_bytes")]
        rows.append([str(row["j"]), row["phase"], str(row["samples"]), *sizes, f"{ratio:.3f}"])
    machine.print_table(["stage", "", "samples", "predicted", "measured", "ratio"], rows)
    of_stages = stage_ratios(found)
    passed = all(BOUNDS[0] <= ratio <= BOUNDS[1] for ratio in of_stages)
    print(f"{'passed' if passed else 'FAILED'}: stages {min(of_stages):.3f} to {max(of_stages):.3f}")
    if arguments.json:
        record = {"machine": machine.record(), "device": str(device), "preset": arguments.preset, "peaks": found}
        machine.write_json(arguments.json, {**record, "passed": passed})
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
