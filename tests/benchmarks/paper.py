"""The paper's CIFAR-10 experiments by the commands that a user types, in the order of their value: docs/results.md.

    python -m tests.benchmarks.paper --folder DIR --source npz:cifar10.npz --json docs/results/FILE.json

Of each the minutes and bytes that `cascade plan` says beforehand, what it then took, its figures, and the paper's. At
full size as above; `--set network.width=16 --set train.epochs=3` makes all of them small, and the record says so. The
record is rewritten after every row, and the same command goes on after the last one. A run folder is deleted once its
row is there.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pipeline.config_file import load_config
from pipeline.outline import read_outline
from tests.benchmarks import machine

CLI = Path(__file__).parents[2] / "cli.py"
EPOCHS = "EPOCHS"
"""In a command: of all stages together."""
DROPS = "DROPS"
"""In a command: the epochs between drops of the learning rate that go with these."""
HALF = "HALF"
"""In a command: half the width of the last stage's head."""


@dataclass(frozen=True)
class Experiment:
    """A run folder and what is asked of it."""

    name: str
    preset: str
    paper: str
    """Its figures for the same, percent; "" where it has none."""
    settings: tuple[str, ...] = ()
    """As after `--set`, before those of the command line."""
    then: tuple[tuple[str, ...], ...] = ()
    """What is typed after `cascade run`."""
    stages: bool = True
    """Whether stages are trained at all."""


BASELINE = ("baseline", "--epochs", EPOCHS, "--set", f"baseline.train.lr_drop_every={DROPS}")
"""As many epochs as all stages together, and a schedule as much longer."""
EXPERIMENTS = (
    Experiment("cifar10-k3, canvas", "cifar10-k3", "91.7; ensemble 92.8", then=(BASELINE, ("probe",))),
    Experiment("cifar10-k3, recompute", "cifar10-k3", "91.7; ensemble 92.8", ("augment.policy=recompute",)),
    Experiment("cifar10-k1", "cifar10-k1", "88.3; ensemble 88.4; end to end 89.7", then=(BASELINE, ("probe",))),
    Experiment("cifar10-k2", "cifar10-k2", "90.4; ensemble 90.7", then=(BASELINE, ("probe",))),
    Experiment("k = 1, strided", "cifar10-k1", "ensemble 87.8", ("network.downsample=strided",)),
    Experiment("k = 1, average", "cifar10-k1", "ensemble 87.6", ("network.downsample=average",)),
    Experiment("k = 1, max", "cifar10-k1", "ensemble 88.0", ("network.downsample=max",)),
    Experiment("smaller final head", "cifar10-k3", "", then=(("refit-last", "--head-width", HALF),)),
    Experiment("compressed", "cifar10-compressed", "87.6"),
    Experiment(
        "compression's baseline",
        "cifar10-compression-baseline",
        "87.5",
        then=(("baseline",),),
        stages=False,
    ),
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an experiment under a seed."""

    name: str
    seed: int
    asked: list[str]
    """Address of the images, and the settings of all run folders."""
    paper: str
    commands: list[str]
    planned_minutes: float | None
    """Of `cascade run`, by `cascade plan`; None where no stage is trained."""
    planned_bytes: int | None
    """Of the stores on disk at a time."""
    minutes: float
    """Of all commands."""
    evaluation: dict[str, Any] | None
    """As `cascade evaluate --json` says it."""
    others: dict[str, Any] = {}
    """Command -> what it says with --json."""
    machine: dict[str, Any]


@dataclass
class Shell:
    """Types commands, and keeps what was typed."""

    folder: Path
    typed: list[str] = field(default_factory=list)

    def __call__(self, *words: str, as_json: bool = False) -> Any:
        """Run `cascade WORDS` beside the run folder; with `as_json` what it says, read."""
        self.typed.append(" ".join(["cascade", *words]))
        asked = [*words, "--json"] if as_json else [*words]
        run = subprocess.run(
            [sys.executable, CLI, *asked], cwd=self.folder, stdout=subprocess.PIPE, text=True, check=False
        )
        if run.returncode:
            sys.exit(run.returncode)  # it said why
        return json.loads(run.stdout) if as_json else run.stdout


def perform(one: Experiment, seed: int, folder: Path, source: str, settings: Sequence[str]) -> Row:
    """Do one from the beginning."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    shell, began = Shell(folder), time.perf_counter()
    asked = [f"data.source={source}", f"seed={seed}", *one.settings, *settings]
    shell("init", one.preset, "run", *(word for setting in asked for word in ("--set", setting)))
    planned, evaluation = None, None
    if one.stages:
        shell("ingest", "--run", "run")
        planned = shell("plan", "--run", "run", as_json=True)
        shell("run", "--run", "run")
        evaluation = shell("evaluate", "--run", "run", as_json=True)
    others: dict[str, Any] = {}
    for words in one.then:
        filled = [_filled(word, folder / "run") for word in words]
        others[" ".join(filled)] = shell(*filled, "--run", "run", as_json=True)
    minutes = (time.perf_counter() - began) / 60
    shutil.rmtree(folder / "run")
    return Row(
        name=one.name,
        seed=seed,
        asked=[source, *settings],
        paper=one.paper,
        commands=shell.typed,
        planned_minutes=planned["seconds"] / 60 if planned else None,
        planned_bytes=planned["peak_bytes"] if planned else None,
        minutes=minutes,
        evaluation=evaluation,
        others=others,
        machine=machine.record(),
    )


def _filled(word: str, run: Path) -> str:
    """A word of a command, with the numbers of a run folder."""
    config = load_config(run)
    trains = [config.for_stage(j).train for j in range(config.network.stages)]
    epochs = sum(train.epochs for train in trains)
    head_width = read_outline(run, config).shapes[-1].head_width
    numbers = {
        EPOCHS: epochs,
        DROPS: epochs * trains[-1].lr_drop_every // trains[-1].epochs,
        HALF: head_width // 2,
    }
    for name, number in numbers.items():
        word = word.replace(name, str(number))
    return word


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    names = ("experiment", "seed", "test top-1 by stage; ensemble", "beside", "minutes planned, taken", "disk", "paper")
    lines = [f"{' '.join(rows[0].asked)}\n"] if rows else []
    lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for row in rows:
        found = row.evaluation
        stages = f"{_scores(one['top1'] for one in found['stages'])}; {found['ensemble']['top1']:.2f}" if found else "-"
        minutes = f"{'-' if row.planned_minutes is None else f'{row.planned_minutes:.1f}'}, {row.minutes:.1f}"
        disk = "-" if row.planned_bytes is None else f"{row.planned_bytes / 1e9:.2f} GB"
        beside = "; ".join(part for said in row.others.values() for part in _beside(said)) or "-"
        lines.append(f"| {row.name} | {row.seed} | {stages} | {beside} | {minutes} | {disk} | {row.paper} |")
    return "\n".join(lines)


def _beside(said: dict[str, Any]) -> Iterator[str]:
    """The figures of a command beside the stages, in words."""
    for one in said.get("rows", []):
        if one["what"] == "end to end":
            yield f"end to end {one['test_accuracy']:.2f}"
    for one in said.get("refits", []):
        yield f"head of {one['head_width']}: {one['top1']:.2f}, ensemble {one['ensemble']['top1']:.2f}"
    for kind in dict.fromkeys(one["kind"] for one in said.get("probes", [])):
        own = (one["test_accuracy"] for one in said["probes"] if one["kind"] == kind)
        yield f"{kind} from x_0: {_scores(own)}"


def _scores(percents: Iterable[float]) -> str:
    return ", ".join(f"{one:.2f}" for one in percents)


def main() -> None:
    """Do what is not in the record yet, and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where run folders are made, one at a time")
    parser.add_argument("--source", required=True, help="as data.source")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="of all run folders")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[one.name for one in EXPERIMENTS], default=[])
    parser.add_argument("--json", type=Path, required=True, help="the record")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    rows = msgspec.json.decode(asked.json.read_bytes(), type=list[Row]) if asked.json.exists() else []
    if any(row.asked != [asked.source, *asked.settings] for row in rows):
        sys.exit(f"{asked.json} is of {' '.join(rows[0].asked)}\nnext: the same again, or another --json")
    for seed in asked.seeds:
        for one in EXPERIMENTS:
            is_done = any((row.name, row.seed) == (one.name, seed) for row in rows)
            if is_done or (asked.only and one.name not in asked.only):
                continue
            rows.append(perform(one, seed, asked.folder, asked.source, asked.settings))
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
