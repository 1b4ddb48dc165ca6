"""What is done beyond the paper, one thing at a time against the paper's method, on validation: docs/results.md.

python -m tests.benchmarks.best --folder DIR --source npz:cifar10.npz --preset cifar10-k3 --set data.validation=0.2

An arm is a name of PARTS or several joined, as in "cosine + residual". All arms and seeds live in one run folder, where
stages with equal keys are shared; stores are deleted once they were read. The record is rewritten after every arm, and
a study that is started again goes on where it was. Test figures are in it of the base and of `--final` alone, and of
the latter trained end to end, for as many epochs as all stages together.
"""

import argparse
import itertools
import shutil
from collections.abc import Sequence
from statistics import fmean, stdev

import msgspec
import torch
from torch import Tensor, nn

from cache import replace_file
from cascade import ensemble
from pipeline.config_file import load_config
from pipeline.device import autocast_type, choose_device, machine_record, place
from pipeline.evaluation import evaluate, outputs, score
from pipeline.experiments.baseline import train_baseline
from pipeline.feed import Feed
from pipeline.networks import load_block, load_head
from pipeline.presets import write_preset
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.runs import ingest_data
from pipeline.training import train_stage
from tests.benchmarks.study import parser

BASE = "base"
PARTS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "cosine": ("train.schedule=cosine",),
    "label smoothing": ("train.label_smoothing=0.1",),
    "residual": ("network.residual=true",),
    "cutout": ("augment.cutout=16",),
    "views": ("augment.policy=views",),
    "weight decay 1e-3": ("train.weight_decay=1e-3",),
    "weight decay 2e-4": ("train.weight_decay=2e-4",),
    "similarity 0.5": ("head.similarity=0.5",),
    "similarity 0.9": ("head.similarity=0.9",),
    "similarity 0.99": ("head.similarity=0.99",),
    "k=4 early": ("stages.0.head.k=4", "stages.1.head.k=4"),
    "heads twice as wide": ("head.width={head_width * 2}",),
}
"""Name -> settings, as after `--set`; the braces hold what the base's head has."""
ENSEMBLE = "ensemble"


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One arm under one seed."""

    name: str
    seed: int
    settings: list[str]
    """As after `--set`, over those of the study."""
    validation: list[float]
    """Percent, of each stage."""
    ensemble: float
    """Percent, on validation."""
    train: list[float]
    """Percent of each stage, over the last epoch's augmented samples."""
    minutes: float
    """Of training all stages, also of those that another arm trained."""


class Tested(msgspec.Struct, frozen=True, kw_only=True):
    """Test figures of an arm under one seed, percent."""

    name: str
    seed: int
    stages: list[float]
    ensemble: float
    end_to_end: float | None
    """Of the same network trained end to end; None of the base."""
    end_to_end_validation: float | None
    """Likewise, on validation."""


class Log(msgspec.Struct, kw_only=True):
    """The record of a study."""

    preset: str
    settings: list[str]
    machine: dict[str, object]
    samples: dict[str, int]
    arms: list[Arm] = []
    tested: list[Tested] = []


def settings_of(name: str, head_width: int) -> list[str]:
    """Of an arm. Raises SystemExit where a part of it has no name."""
    parts = name.split(" + ")
    if unknown := [part for part in parts if part not in PARTS]:
        raise SystemExit(f"no part {unknown[0]!r}: there are {', '.join(PARTS)}")
    texts = itertools.chain.from_iterable(PARTS[part] for part in parts)
    return [text.replace("{head_width * 2}", str(2 * head_width)) for text in texts]


def run_study(arguments: argparse.Namespace) -> Log:
    """Train all arms with all seeds, print the table after each, then test the base and the final choice."""
    folder, record = arguments.folder, arguments.folder / "log.json"
    if not (folder / "cascade.toml").exists():
        write_preset(arguments.preset, folder, [f"data.source={arguments.source}", *arguments.settings])
    config, device = load_config(folder), choose_device(arguments.device)
    ingest_data(config, folder, Reporter())
    log = Log(
        preset=arguments.preset,
        settings=arguments.settings,
        machine=machine_record(device, autocast_type(device, config.network.precision)),
        samples=dict(RunFolder(folder, config).info.samples),
    )
    if record.exists():
        before = msgspec.json.decode(record.read_bytes(), type=Log)
        if (before.preset, before.settings) != (log.preset, log.settings):
            raise SystemExit(f"{folder} holds a study with the settings {before.settings}; take another folder")
        log.arms, log.tested = before.arms, before.tested

    end_to_end = f"baseline.train.epochs={config.network.stages * config.train.epochs}"

    def run_of(name: str, seed: int) -> RunFolder:
        settings = [*settings_of(name, config.head.width), f"seed={seed}", end_to_end]
        return RunFolder(folder, load_config(folder, settings))

    def keep() -> None:
        for path in (record, *([arguments.json] if arguments.json else [])):
            replace_file(path, msgspec.json.format(msgspec.json.encode(log)))

    for seed, name in itertools.product(range(arguments.seeds), [BASE, *(arguments.arms or list(PARTS)[1:])]):
        if (name, seed) not in {(arm.name, arm.seed) for arm in log.arms}:
            log.arms.append(trained(run_of(name, seed), name, settings_of(name, config.head.width), device))
            keep()
            print(table(log.arms), flush=True)
    for name, seed in itertools.product([BASE, arguments.final] if arguments.final else [], range(arguments.seeds)):
        if (name, seed) not in {(one.name, one.seed) for one in log.tested}:
            log.tested.append(tested(run_of(name, seed), name, device))
            keep()
    print("\n".join([table(log.arms), *map(str, log.tested)]), flush=True)
    return log


def trained(run: RunFolder, name: str, settings: Sequence[str], device: torch.device) -> Arm:
    """All stages of one arm; a store is deleted as soon as no later stage may start from it."""
    logits, y = [], torch.empty(0)
    for j in range(len(run.stages)):
        train_stage(run, j, device, Reporter())
        z, y = validation_outputs(run, j, device)
        logits.append(z)
        last = run.config.augment.last_anchor(j + 1) if j + 1 < len(run.stages) else 0
        for i, split in itertools.product({*range(1, j + 1)} - {last}, run.splits):
            shutil.rmtree(run.store(i, split), ignore_errors=True)
    records = [stage.record for stage in run.stages if stage.record is not None]
    return Arm(
        name=name,
        seed=run.config.seed,
        settings=list(settings),
        validation=[score(z, y, classes=run.classes).top1 for z in logits],
        ensemble=score(ensemble(logits, over=run.config.evaluate.ensemble), y, classes=run.classes).top1,
        train=[one.train_accuracy for one in records],
        minutes=sum(one.seconds for one in records) / 60,
    )


def validation_outputs(run: RunFolder, j: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits of stage j's head, (N, classes), and labels (N,)."""
    network = nn.Sequential(load_block(run, j), load_head(run, j))
    place(network, device)
    return outputs(Feed(run, j, device), network, "validation")


def tested(run: RunFolder, name: str, device: torch.device) -> Tested:
    """Test figures that the stages kept, and of all but the base the network trained end to end."""
    end = None if name == BASE else train_baseline(run, device, Reporter())
    found = evaluate(run)
    return Tested(
        name=name,
        seed=run.config.seed,
        stages=[scores.top1 for scores in found.stages.values()],
        ensemble=found.ensemble.top1,
        end_to_end=end.test_accuracy if end else None,
        end_to_end_validation=end.validation_accuracy if end else None,
    )


def table(arms: Sequence[Arm]) -> str:
    """Means over seeds, and differences to the base, paired by seed, each with its standard error."""
    known = {(arm.name, arm.seed): arm for arm in arms}
    lines = ["arm | by stage | ensemble | last stage, difference | ensemble, difference | n | minutes"]
    for name in dict.fromkeys(arm.name for arm in arms):
        seeds = [arm.seed for arm in arms if arm.name == name and (BASE, arm.seed) in known]
        ours, base = ([known[one, seed] for seed in seeds] for one in (name, BASE))
        by_stage = ", ".join(f"{fmean(values):.2f}" for values in zip(*(arm.validation for arm in ours), strict=True))
        lasts = [arm.validation[-1] - one.validation[-1] for arm, one in zip(ours, base, strict=True)]
        together = [arm.ensemble - one.ensemble for arm, one in zip(ours, base, strict=True)]
        row = [name, by_stage, f"{fmean(arm.ensemble for arm in ours):.2f}"]
        row += ["-", "-"] if name == BASE else [mean_and_error(lasts), mean_and_error(together)]
        lines.append(" | ".join([*row, str(len(seeds)), f"{fmean(arm.minutes for arm in ours):.1f}"]))
    return "\n".join(lines)


def mean_and_error(differences: Sequence[float]) -> str:
    """As in "+0.31 ± 0.10", the standard error over seeds; of one seed none."""
    mean = f"{fmean(differences):+.2f}"
    return mean if len(differences) < 2 else f"{mean} ± {stdev(differences) / len(differences) ** 0.5:.2f}"


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument("--final", help="an arm whose test figures, and the base's, are taken; no others are")
    run_study(made.parse_args())
