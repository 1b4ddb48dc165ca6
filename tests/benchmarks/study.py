"""Paired comparisons of settings: arms trained with the same seeds, so with the same weights at the start and orders.

All arms and seeds live in one run folder, where stages with equal keys are shared; stores are deleted once they were
read. The record is rewritten after every arm, and a study that is started again goes on where it was.
"""

import argparse
import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from scipy import stats

from cache import replace_file
from pipeline.config_file import load_config
from pipeline.device import autocast_type, choose_device, machine_record
from pipeline.presets import write_preset
from pipeline.progress import Reporter, size
from pipeline.runfolder import RunFolder
from pipeline.runs import ingest_data
from pipeline.training import train_stage


@dataclass(frozen=True)
class Arm:
    """What is compared."""

    name: str
    settings: tuple[str, ...]
    """As after `--set`."""


class StageResult(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of one arm under one seed."""

    arm: str
    seed: int
    j: int
    train: float
    """Percent, over the last epoch's augmented samples."""
    validation: float
    """Percent."""
    test: float
    """Percent."""
    input_bytes: int
    """Of the training split of the x_i that it read, on disk; 0 where nothing past the images is stored."""
    seconds: float
    """Of the stage's training."""


class Study(msgspec.Struct, kw_only=True):
    """The record of a study."""

    settings: list[str]
    machine: dict[str, object]
    results: list[StageResult] = []


def parser(description: str | None) -> argparse.ArgumentParser:
    """What every study takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--source", default="digits:", help="data set address")
    made.add_argument("--preset", default="digits")
    made.add_argument("--seeds", type=int, default=2)
    made.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="for all arms")
    made.add_argument("--arms", nargs="*", help="only these")
    made.add_argument("--folder", type=Path, required=True, help="run folder of the study, kept to go on with")
    made.add_argument("--device", default="auto")
    made.add_argument("--json", type=Path, help="write the record here")
    return made


def run_study(arms: Sequence[Arm], arguments: argparse.Namespace) -> Study:
    """Train all arms with all seeds, and print a table of paired differences to the first arm after each seed."""
    arms = [arm for arm in arms if not arguments.arms or arm.name in arguments.arms]
    folder, record = arguments.folder, arguments.folder / "study.json"
    device = choose_device(arguments.device)
    if not (folder / "cascade.toml").exists():
        write_preset(arguments.preset, folder, [f"data.source={arguments.source}", *arguments.settings])
    config = load_config(folder)
    of_arms = [load_config(folder, arm.settings) for arm in arms]
    ingest_data(min(of_arms, key=lambda one: one.order.run), folder, Reporter())  # longer runs are multiples
    study = Study(
        settings=arguments.settings, machine=machine_record(device, autocast_type(device, config.network.precision))
    )
    if record.exists():
        before = msgspec.json.decode(record.read_bytes(), type=Study)
        if before.settings != study.settings:
            raise SystemExit(f"{folder} holds a study with the settings {before.settings}; take another folder")
        study.results = before.results
    for seed in range(arguments.seeds):
        for arm in arms:
            if not any((done.arm, done.seed) == (arm.name, seed) for done in study.results):
                run = RunFolder(folder, load_config(folder, [*arm.settings, f"seed={seed}"]))
                study.results += train_arm(run, arm, seed, arguments.device)
                replace_file(record, msgspec.json.format(msgspec.json.encode(study)))
        print(table([arm.name for arm in arms], study.results), flush=True)
    if arguments.json:
        replace_file(arguments.json, msgspec.json.format(msgspec.json.encode(study)))
    return study


def train_arm(run: RunFolder, arm: Arm, seed: int, device_name: str) -> list[StageResult]:
    """All stages of one arm; a store is deleted as soon as no later stage may start from it."""
    results = []
    for j in range(len(run.stages)):
        anchor = run.anchor(j)
        input_bytes = run.stored_bytes(anchor, "train") if anchor else 0
        train_stage(run, j, choose_device(device_name), Reporter())
        last = run.config.augment.last_anchor(j + 1) if j + 1 < len(run.stages) else 0
        for i, split in itertools.product({*range(1, j + 1)} - {last}, run.splits):
            shutil.rmtree(run.store(i, split), ignore_errors=True)
        record = run.stages[j].record
        assert record is not None
        assert record.validation_accuracy is not None
        results.append(
            StageResult(
                arm=arm.name,
                seed=seed,
                j=j,
                train=record.train_accuracy,
                validation=record.validation_accuracy,
                test=record.test_accuracy,
                input_bytes=input_bytes,
                seconds=record.seconds,
            )
        )
    return results


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences and the half width of its 95% interval, by Student's t."""
    values = np.asarray(differences)
    if len(values) < 2:
        return float(values.mean()), float("inf")
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def table(arms: Sequence[str], results: Sequence[StageResult]) -> str:
    """Mean accuracy of every arm and stage, and the difference to the first arm with its 95% interval."""
    known = {(r.arm, r.seed, r.j): r for r in results}
    seeds = sorted({r.seed for r in results if all((arm, r.seed, 0) in known for arm in arms)})
    lines = [f"{len(seeds)} seeds", "arm | stage | x_j on disk | train | validation | difference | test | difference"]
    for arm in arms:
        for j in sorted({r.j for r in results if r.j}):
            ours, base = ([known[name, seed, j] for seed in seeds] for name in (arm, arms[0]))
            if not ours:
                continue
            row = [arm, str(j), size(ours[0].input_bytes), f"{np.mean([r.train for r in ours]):.2f}"]
            for split in ("validation", "test"):
                mean, half = interval([getattr(a, split) - getattr(b, split) for a, b in zip(ours, base, strict=True)])
                accuracy = np.mean([getattr(r, split) for r in ours])
                row += [f"{accuracy:.2f}", "-" if arm == arms[0] else f"{mean:+.2f} ± {half:.2f}"]
            lines.append(" | ".join(row))
    return "\n".join(lines)
