"""The parts of a report beside its figures: what comes first, what is open, tables, and where it all comes from."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from pipeline.evaluation import span
from pipeline.experiments.places import SEEDS
from pipeline.experiments.report.facts import RunFacts, stored_together
from pipeline.experiments.report.figure import across, number
from pipeline.experiments.report.page import (
    bullets,
    code,
    folded,
    heading,
    numbers,
    paragraph,
    subsection,
    table,
    terms,
)
from pipeline.experiments.report.stages import StageFacts
from pipeline.experiments.report.words import source_name
from pipeline.progress import duration, size
from pipeline.tables import count

ROWS_SHOWN = 16
"""Of a table that is not folded away."""
TIME = "%d %B %Y, %H:%M %Z"


def title(runs: Sequence[RunFacts]) -> str:
    """The names of the run folders; of the seeds of a sweep, as in DIR/seeds/0, that of DIR."""
    folders = [facts.run.path.resolve() for facts in runs]
    return ", ".join(dict.fromkeys(one.parent.parent.name if one.parent.name == SEEDS else one.name for one in folders))


def head(runs: Sequence[RunFacts]) -> str:
    """The name, what it is in a sentence, and the numbers that are looked for first."""
    trained = min(len(facts.trained) for facts in runs)
    last = [facts.stages[trained - 1] for facts in runs] if trained else []
    tiles = [
        *tile(f"test accuracy of stage {trained - 1}", [stage.test_accuracy for stage in last]),
        *tile(f"of the ensemble of {trained} heads", [stage.ensemble_accuracy for stage in last if trained > 1]),
        *tile("trained end to end", [facts.end_to_end.test_accuracy for facts in runs if facts.end_to_end]),
        ("stages trained", f"{sum(len(one.trained) for one in runs)} of {sum(len(one.stages) for one in runs)}"),
        ("of training so far" if is_open(runs) else "of training", duration(sum(map(seconds, runs)))),
        ("stored on disk now", size(stored_together(runs))),
    ]
    return f"<header>{heading(title(runs))}{paragraph(_lede(runs), 'lede')}{numbers(tiles)}</header>"


def _lede(runs: Sequence[RunFacts]) -> str:
    """As in "4 blocks trained one at a time on digits with k = 2, seed 0"."""
    run, seeds = runs[0].run, ", ".join(str(facts.seed) for facts in runs)
    blocks = f"{count(len(run.stages), 'block')} trained{' one at a time' if len(run.stages) > 1 else ''}"
    k = f"k = {run.config.head.k}".replace(" ", "\N{NO-BREAK SPACE}")
    what = f"{blocks} on {source_name(run)} with {k}, seed{'s' if len(runs) > 1 else ''} {seeds}."
    return f"{what} Means of {len(runs)} runs, with standard deviations." if len(runs) > 1 else what


def runs_table(runs: Sequence[RunFacts]) -> str:
    """Each of several runs in a row."""
    if len(runs) < 2:
        return ""
    rows = [
        [
            str(facts.seed),
            f"{len(facts.trained)} of {len(facts.stages)}",
            percent(facts.trained[-1].test_accuracy if facts.trained else None),
            percent(facts.trained[-1].ensemble_accuracy if facts.trained else None),
            duration(seconds(facts)),
            str(facts.run.path),
        ]
        for facts in runs
    ]
    return subsection(
        "The runs",
        table(
            ["seed", "trained", "last test,\N{NO-BREAK SPACE}%", "ensemble,\N{NO-BREAK SPACE}%", "time", " folder"],
            rows,
        ),
    )


def stages_table(facts: RunFacts, name: str) -> str:
    """Each stage in a row; folded away under the run's name, where it has one."""
    columns = [
        "stage",
        " state",
        " block",
        "parameters",
        "epochs",
        "train,\N{NO-BREAK SPACE}%",
        "validation,\N{NO-BREAK SPACE}%",
        "test,\N{NO-BREAK SPACE}%",
    ]
    columns += ["ensemble,\N{NO-BREAK SPACE}%", " starts from", "images/s", "time"]
    whole = table(columns, [_stage_row(stage) for stage in facts.stages]) + bullets(list(_notes(facts)), "note")
    if name:
        return folded(f"The stages of {name}", whole)
    if len(facts.stages) > ROWS_SHOWN:
        return folded("The stages", whole)
    return subsection("The stages", whole)


def encodings_table(runs: Sequence[RunFacts]) -> str:
    """How each x_j is rounded, where one run is told of."""
    rows = [
        [
            f"x_{stage.j + 1}",
            stage.encoding.encoding,
            "no error" if (ratio := stage.encoding.signal_to_noise_db) is None else number(ratio, 1),
            number(100 * stage.encoding.saturated_share, 3),
        ]
        for stage in runs[0].stages
        if len(runs) == 1 and stage.encoding
    ]
    whole = table([" store", " encoding", "signal to noise, dB", "cut off,\N{NO-BREAK SPACE}%"], rows) if rows else ""
    return folded("All encodings", whole) if len(rows) > ROWS_SHOWN else whole


def totals(runs: Sequence[RunFacts]) -> str:
    """The costs of all stages together, and what the plan said."""
    measured = duration(sum(map(seconds, runs)))
    due = sum(stage.planned_left(one.run.info.samples["train"]) for one in runs for stage in one.stages)
    rest = f" What is left is planned to take {duration(due)}." if due else ""
    return f"Training took {measured} so far.{rest}" if is_open(runs) else f"Training took {measured}."


def provenance(facts: RunFacts, name: str) -> str:
    """Where, when and by what command a run was made, and its config."""
    run = facts.run
    machines = dict.fromkeys(
        _machine(session.machine) for stage in facts.stages if stage.record for session in stage.record.sessions
    )
    ended = [stage.ended for stage in facts.stages if stage.ended]
    times = [f"images ingested {facts.ingested.strftime(TIME)}"]
    times += [f"last stage finished {max(ended).strftime(TIME)}"] if ended else []
    found = [
        ("Folder", str(run.path)),
        ("Machine", "; ".join(machines) or "nothing is trained yet"),
        ("Dates", f"{'; '.join(times)} (by the files' times)"),
        ("Content of the images", f"SHA-256 {run.info.digest[:16]}…"),
    ]
    where = ", ".join(filter(None, ["Where and when", name]))
    keys = [f"stage {stage.j}: {run.stages[stage.j].key[:16]}…" for stage in facts.stages if stage.record]
    return "".join(
        [
            subsection(where, terms(found)),
            code("\n".join([run.command("run"), run.command("evaluate")])),
            folded("Keys of the stages", bullets(keys)) if keys else "",
            folded("The config file", code(facts.config_text)),
        ]
    )


def _stage_row(stage: StageFacts) -> list[str]:
    record, shape = stage.record, stage.shape
    before = f"{shape.in_channels}×{shape.in_side}×{shape.in_side}"
    return [
        str(stage.j),
        stage.status.state,
        f"{before} → {shape.out_channels}×{shape.out_side}×{shape.out_side}",
        f"{sum(record.parameters.values()):,}" if record else "–",
        f"{len(stage.epochs)} of {stage.due_epochs}",
        percent(stage.train_accuracy),
        percent(stage.validation_accuracy),
        percent(stage.test_accuracy),
        percent(stage.ensemble_accuracy),
        stage.status.input or "–",
        number(stage.images_per_second, 0) if stage.images_per_second else "–",
        duration(stage.seconds) if stage.seconds is not None else "–",
    ]


def _notes(facts: RunFacts) -> Iterator[str]:
    """What a reader of the table should know of finished stages, of those in a row once."""
    for note, row in groupby(facts.stages, key=_note):
        stages = list(row)
        if note:
            yield f"{span(stages[0].j, stages[-1].j).capitalize()}: {note}"


def _note(stage: StageFacts) -> str:
    epochs = stage.best.epochs if stage.best else None
    kept = "" if epochs is None else f"kept after {count(epochs, 'epoch')}" if epochs else "kept as it started"
    return "; ".join(filter(None, [kept, stage.status.reason if stage.status.state == "done" else ""]))


def tile(what: str, values: Sequence[float | None]) -> list[tuple[str, str]]:
    """A number in percent, the mean where there are several; none where there is none."""
    found = across([{0.0: value} for value in values if value is not None])
    return [(what, percent(point.y) + deviation(point.deviation) + "\N{NARROW NO-BREAK SPACE}%") for point in found]


def deviation(value: float | None) -> str:
    """As in " ± 0.31"; "" of one run."""
    return "" if value is None else f" ± {value:.2f}"


def percent(value: float | None) -> str:
    """A number with two decimals, or a dash."""
    return "–" if value is None else f"{value:.2f}"


def seconds(facts: RunFacts) -> float:
    """Of training, so far."""
    return sum(stage.seconds or 0.0 for stage in facts.stages)


def is_open(runs: Sequence[RunFacts]) -> bool:
    """Whether something is still to be trained."""
    return any(len(facts.trained) < len(facts.stages) for facts in runs)


def _machine(machine: dict[str, object]) -> str:
    """As in "cpu, precision bfloat16, threads 2"."""
    device, *rest = [(name, value) for name, value in machine.items() if value is not False]
    return ", ".join([str(device[1]), *(f"{name} {value}" for name, value in rest)])
