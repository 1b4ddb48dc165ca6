"""What the seeds of a sweep scored together, kept beside them with what it is of."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from pipeline.config_file import load_config
from pipeline.experiments.places import SEEDS, SUMMARY
from pipeline.experiments.scores import Scored, in_order
from pipeline.experiments.seeds import sweep_command
from pipeline.experiments.seedscores import seed_scores
from pipeline.experiments.statistics import Mean, mean_of
from pipeline.lock import Lock
from pipeline.sealed import read_sealed, write_sealed


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A head, or the ensemble, over seeds."""

    what: str
    """As in "stage 2", "ensemble", "last stage, head 512", "end to end"."""
    seeds: list[int]
    """That have it trained; the ensemble is of all stages."""
    test: Mean
    """Test accuracy, percent."""
    train: Mean | None
    """Training accuracy as the records have it, percent; None of an ensemble."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of a seed, or its network end to end, as its record has it."""

    seed: int
    what: str
    key: str
    """Of its record, which has everything that determined it."""
    device: str
    seconds: float
    machine: dict[str, Any]
    """Versions, precision and thread count where it ended."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """seeds/summary.json: what the seeds scored that are of the same settings."""

    rows: list[Row]
    notes: list[str] = []
    """Which seeds do not count, and why."""
    made: str = ""
    """When, by the clock of the machine."""
    config: dict[str, Any] = {}
    """Of the seeds that count, the first's; theirs differ in `seed`, and in what changes no result."""
    trainings: list[Training] = []


def summarise(parent: Path, settings: Sequence[str] = (), lock: Lock | None = None) -> Summary:
    """Score the seeds that are of the same settings; with the parent's `lock` held, keep that beside them.

    Raises RefusedError as `seed_scores`.
    """
    counted = seed_scores(parent, settings)
    found = list(counted.scores.values())
    config = msgspec.to_builtins(load_config(found[0].path))
    summary = Summary(
        rows=rows_of(found),
        notes=counted.notes,
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
        config={name: value for name, value in config.items() if name != "seed"},
        trainings=[one for scored in found for one in _trainings(scored)],
    )
    if lock is not None:
        write_sealed(parent / SEEDS / SUMMARY, summary)
    return summary


def _trainings(scored: Scored) -> list[Training]:
    return [
        Training(
            seed=scored.seed,
            what=what,
            key=record.key,
            device=record.device,
            seconds=record.seconds,
            machine=record.machine,
        )
        for what, record in scored.records.items()
    ]


def rows_of(found: Sequence[Scored]) -> list[Row]:
    """A row for whatever any seed has trained, in order."""
    rows = []
    for name in in_order(name for one in found for name in one.test):
        having = [one for one in found if name in one.test]
        trained = [one.train[name] for one in having if name in one.train]
        rows.append(
            Row(
                what=name,
                seeds=[one.seed for one in having],
                test=mean_of([one.test[name] for one in having]),
                train=mean_of(trained) if trained else None,
            )
        )
    return rows


def read_summary(parent: Path) -> Summary | None:
    """What the last sweep kept; None where none ended. Raises CorruptDataError."""
    path = parent / SEEDS / SUMMARY
    return read_sealed(path, Summary, remedy=f"delete it; the next {sweep_command(parent)} makes it again")
