"""Figures and tables of what experiments left beside the stages."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.experiments.linear_transfer import Transfer
from pipeline.experiments.report.facts import RunFacts
from pipeline.experiments.report.figure import PERCENT, Figure, Point, Tone, across, line, number
from pipeline.experiments.report.page import subsection, table
from pipeline.experiments.report.sections import percent
from pipeline.progress import duration
from pipeline.record import StageRecord

LINE_TONES: tuple[Tone, ...] = ("test", "train", "validation", "ensemble")


def separability_by_depth(runs: Sequence[RunFacts]) -> Figure:
    """The paper's Figure 2."""
    probes = list(dict.fromkeys(one.probe for run in runs for one in run.separability))
    found = [
        line(
            probe,
            LINE_TONES[index % len(LINE_TONES)],
            across([{one.j: one.test_accuracy for one in run.separability if one.probe == probe} for run in runs]),
        )
        for index, probe in enumerate(probes)
    ]
    return Figure(
        name="separability",
        title="Separability by depth",
        description="Test accuracy of probes trained on x_j, the input of stage j; x_0 are the images.",
        x_name="j",
        y_name="test accuracy, %",
        x_range=(-0.3, max((point.x for series in found for point in series.points), default=0.0) + 0.3),
        y_limits=PERCENT,
        series=tuple(found),
    )


def last_heads(runs: Sequence[RunFacts]) -> Figure:
    """The last stage with its own head and with others, each alone and in the ensemble."""
    widths = sorted({one.head_width for run in runs for one in run.refits if one.record})
    own = max(run.run.shapes[-1].head_width for run in runs)
    rows = [f"head {own}, its own", *(f"head {width}" for width in widths)] if widths else []

    def alone(run: RunFacts) -> dict[float, float]:
        found = {width: one.record.test_accuracy for one in run.refits if (width := one.head_width) and one.record}
        return _placed(widths, run.stages[-1].test_accuracy, found)

    def together(run: RunFacts) -> dict[float, float]:
        found = {one.head_width: one.ensemble_accuracy for one in run.refits if one.ensemble_accuracy is not None}
        return _placed(widths, run.stages[-1].ensemble_accuracy, found)

    return Figure(
        name="last-heads",
        title="Accuracy with other last heads",
        description="Block and head of the last stage trained again from fresh weights, the head of another width: "
        "test accuracy of the head alone, and of the ensemble with it in the place of the last stage.",
        kind="dots",
        x_name=" last stage",
        y_name="test accuracy, %",
        x_range=(-0.5, len(rows) - 0.5),
        y_limits=PERCENT,
        rows=tuple(rows),
        series=(
            line("head", "test", across([alone(run) for run in runs]) if rows else ()),
            line("ensemble", "ensemble", across([together(run) for run in runs]) if rows else ()),
        ),
    )


def _placed(widths: Sequence[int], own: float | None, found: dict[int, float]) -> dict[float, float]:
    """Row -> number: that of the stage itself, then those of the other heads."""
    others = {float(row): found[width] for row, width in enumerate(widths, 1) if width in found}
    return others if own is None else {0.0: own, **others}


def transfers_by_depth(runs: Sequence[RunFacts]) -> Figure:
    """To every data set; of one run with the deviations over its splits."""
    named: dict[str, list[Transfer]] = {}
    for run in runs:
        for one in run.transfers:
            named.setdefault(_to(one), []).append(one)
    found = [
        line(name, LINE_TONES[index % len(LINE_TONES)], _by_depth(ones))
        for index, (name, ones) in enumerate(named.items())
    ]
    over = "runs" if len(runs) > 1 else "random splits"
    return Figure(
        name="transfer",
        title="Features on other images",
        description="Linear transfer: a classifier on the averages of x_j of other images, trained on a few of each "
        f"class and tested on all others; mean of the classes' accuracies, with the standard deviation over {over}.",
        x_name="j",
        y_name="accuracy, %",
        x_range=(-0.3, max((point.x for series in found for point in series.points), default=0.0) + 0.3),
        y_limits=PERCENT,
        series=tuple(found),
    )


def _by_depth(transfers: Sequence[Transfer]) -> tuple[Point, ...]:
    """Of one as it says, of several the mean of theirs."""
    if len(transfers) == 1:
        rows = transfers[0].rows
        return tuple(Point(float(row.j), row.accuracy.mean, row.accuracy.deviation, row.accuracy.n) for row in rows)
    return across([{float(row.j): row.accuracy.mean for row in one.rows} for one in transfers])


def _to(record: Transfer) -> str:
    """As in "digits, 30 a class"; of files their name."""
    scheme, _, place = record.data.partition(":")
    return f"{Path(place).stem or scheme}, {record.per_class} each"


def filters_kept(runs: Sequence[RunFacts]) -> Figure:
    """Of each block, where compression cuts any."""
    shapes = runs[0].run.shapes
    is_cut = any(shape.cut_from is not None for shape in shapes)
    kept = [Point(float(shape.j), float(shape.out_channels)) for shape in shapes] if is_cut else []
    before = [Point(float(shape.j), float(shape.cut_from or shape.out_channels)) for shape in shapes] if is_cut else []
    return Figure(
        name="filters",
        title="Filters that compression leaves",
        description="Channels of each block's output: as the block is trained, and once its weakest filters by the "
        "Taylor criterion are cut off. What follows sees what is left.",
        kind="bars",
        x_name="stage",
        y_name="channels",
        x_range=(-0.6, len(shapes) - 0.4),
        digits=0,
        label_digits=0,
        series=(line("kept", "test", kept), line("as trained", "predicted", before)),
    )


def compression_table(facts: RunFacts, name: str = "") -> str:
    """Each stage whose filters are cut, before and after, a row each; "" without any."""
    rows = []
    for stage in facts.stages:
        trained = facts.run.config.for_stage(stage.j).train.epochs
        if stage.shape.cut_from is None or len(stage.epochs) < trained:
            continue
        before, record = stage.epochs[trained - 1], stage.record
        after = (record.train_accuracy, record.validation_accuracy, record.test_accuracy) if record else (None,) * 3
        filters = f"{stage.shape.cut_from} → {stage.shape.out_channels}"
        then = (before.train_accuracy, before.validation_accuracy)
        rows.append([str(stage.j), filters, *map(percent, (*then, *after))])
    blank = "\N{NO-BREAK SPACE}%"
    columns = ["stage", "filters", f"train before,{blank}", f"validation before,{blank}"]
    columns += [f"train after,{blank}", f"validation after,{blank}", f"test after,{blank}"]
    title = ", ".join(filter(None, ["Before and after the cut", name]))
    return subsection(title, table(columns, rows)) if rows else ""


def refits_table(facts: RunFacts, name: str = "") -> str:
    """The last stage and what it is with other heads, a row each; "" without any."""
    if not facts.refits:
        return ""
    last = facts.stages[-1]
    own = (str(facts.run.shapes[-1].head_width), "its own", last.record, last.ensemble_accuracy, "")
    others = ((str(one.head_width), one.state, one.record, one.ensemble_accuracy, one.reason) for one in facts.refits)
    rows = [
        [width, state, *_scores(record), percent(together), duration(record.seconds) if record else "–", reason]
        for width, state, record, together, reason in (own, *others)
    ]
    blank = "\N{NO-BREAK SPACE}%"
    columns = ["head", " state", "parameters", "epochs", f"train,{blank}", f"validation,{blank}", f"test,{blank}"]
    title = ", ".join(filter(None, ["The last stage with other heads", name]))
    return subsection(title, table([*columns, f"ensemble,{blank}", "time", " note"], rows))


def _scores(record: StageRecord | None) -> list[str]:
    if record is None:
        return ["–"] * 5
    accuracies = (record.train_accuracy, record.validation_accuracy, record.test_accuracy)
    return [f"{sum(record.parameters.values()):,}", str(record.epochs), *map(percent, accuracies)]


def transfers_table(facts: RunFacts, name: str = "") -> str:
    """A row for each depth and data set; "" without any."""
    rows = [
        [
            _to(record),
            f"x_{row.j}" if row.j else "images",
            str(row.features),
            str(row.components),
            number(row.accuracy.mean, 2),
            "–" if row.accuracy.deviation is None else f"± {number(row.accuracy.deviation, 2)}",
            str(row.accuracy.n),
            duration(row.seconds),
        ]
        for record in facts.transfers
        for row in record.rows
    ]
    columns = [" to", " features", "channels", "PCA", "accuracy,\N{NO-BREAK SPACE}%", "deviation", "splits", "time"]
    title = ", ".join(filter(None, ["Transfer", name]))
    return subsection(title, table(columns, rows)) if rows else ""
