"""The parts of a page on several methods: what they differ in, and tables of what each came to."""

from collections.abc import Callable, Iterator, Sequence

from pipeline.errors import RefusedError
from pipeline.experiments.compare import Difference, compared
from pipeline.experiments.report.compared import ended
from pipeline.experiments.report.facts import RunFacts, stored_together
from pipeline.experiments.report.figure import across
from pipeline.experiments.report.methods import Method, source_said
from pipeline.experiments.report.page import code, folded, heading, numbers, paragraph, subsection, table
from pipeline.experiments.report.sections import ROWS_SHOWN, deviation, is_open, percent, seconds, tile
from pipeline.experiments.report.stages import StageFacts
from pipeline.experiments.scores import ENSEMBLE, Scored
from pipeline.experiments.statistics import CONFIDENCE
from pipeline.progress import duration, size

PERCENT_OF = "\N{NO-BREAK SPACE}%"
MOST_NAMED = 4
"""Settings that the first sentence names."""


def comparison_title(methods: Sequence[Method]) -> str:
    """Their names; of those called by letters how many there are."""
    names = [method.name for method in methods]
    return f"{len(names)} methods" if all(len(name) == 1 for name in names) else " · ".join(names)


def comparison_head(methods: Sequence[Method]) -> str:
    """The names, what they are in a sentence, and where each ends."""
    runs = [facts for method in methods for facts in method.runs]
    tiles = []
    for method in methods:
        last = [facts.trained[-1] for facts in ended(method) if facts.trained]
        what = f"{method.name}, test at stage {last[0].j}" if last else ""
        tiles += tile(what, [stage.test_accuracy for stage in last])
    time = "of training so far" if is_open(runs) else "of training"
    tiles += [
        (time, duration(sum(map(seconds, runs)))),
        ("stored on disk now", size(stored_together(runs))),
    ]
    title = comparison_title(methods)
    return f"<header>{heading(title)}{paragraph(_lede(methods), 'lede')}{numbers(tiles)}</header>"


def _lede(methods: Sequence[Method]) -> str:
    """As in "3 methods on digits that differ in head.k; means of 2 seeds with standard deviations."."""
    sources = ", ".join(dict.fromkeys(source_said(facts.run) for method in methods for facts in method.runs))
    names = list(methods[0].settings)
    more = f" and {len(names) - MOST_NAMED} more settings" if len(names) > MOST_NAMED else ""
    several = [len(method.runs) for method in methods if len(method.runs) > 1]
    means = " Of several seeds: means, with standard deviations." if several else ""
    return f"{len(methods)} methods on {sources} that differ in {', '.join(names[:MOST_NAMED])}{more}.{means}"


def settings_table(methods: Sequence[Method]) -> str:
    """Each setting that is not the same in all, a row; a method a column."""
    rows = [[name, *(method.settings[name] for method in methods)] for name in methods[0].settings]
    return subsection("What differs", table([" setting", *(f" {method.name}" for method in methods)], rows))


def methods_table(methods: Sequence[Method]) -> str:
    """Each method in a row: what it came to, and what it took."""
    rows = []
    for method in methods:
        last = [(facts, facts.trained[-1]) for facts in ended(method) if facts.trained]
        peaks = [peak for facts in method.runs for stage in facts.stages if (peak := stage.peak_memory_bytes)]
        rows.append(
            [
                method.name,
                ", ".join(str(facts.seed) for facts in method.runs),
                f"{len(ended(method)[0].trained)} of {len(method.runs[0].stages)}",
                mean([stage.test_accuracy for _, stage in last]),
                mean([stage.ensemble_accuracy for facts, stage in last if len(facts.trained) > 1]),
                mean([_end_to_end(facts) for facts in method.runs]),
                _mean_duration([seconds(facts) for facts in method.runs]),
                size(max(peaks)) if peaks else "–",
                size(sum(facts.stored_bytes for facts in method.runs) / len(method.runs)),
            ]
        )
    columns = [" method", "seeds", "trained", f"last test,{PERCENT_OF}", f"ensemble,{PERCENT_OF}"]
    columns += [f"end to end,{PERCENT_OF}", "time", "peak memory", "on disk now"]
    commands = [f"{facts.run.command('run')}  # {method.name}" for method in methods for facts in method.runs]
    note = paragraph("Time and disk are of one run, of several the mean; the ensemble is of all trained heads.", "note")
    return subsection("The methods", table(columns, rows)) + note + code("\n".join(commands))


def by_stage_table(methods: Sequence[Method]) -> str:
    """Test accuracy of each stage, a method a column."""
    stages = max(len(facts.stages) for method in methods for facts in method.runs)
    rows = [[f"stage {j}", *(_at(method, j, _test) for method in methods)] for j in range(stages)]
    whole_networks = {
        "ensemble": [mean([_all_heads(facts) for facts in method.runs]) for method in methods],
        "end to end": [mean([_end_to_end(facts) for facts in method.runs]) for method in methods],
    }
    rows += [[name, *cells] for name, cells in whole_networks.items() if set(cells) != {percent(None)}]
    whole = table([" test accuracy, %", *(method.name for method in methods)], rows)
    title = "Test accuracy by stage"
    return folded(title, whole) if len(rows) > ROWS_SHOWN else subsection(title, whole)


def _at(method: Method, j: int, value: Callable[[StageFacts], float | None]) -> str:
    return mean([value(facts.stages[j]) for facts in method.runs if j < len(facts.stages)])


def _test(stage: StageFacts) -> float | None:
    return stage.test_accuracy


def _end_to_end(facts: RunFacts) -> float | None:
    return facts.end_to_end.test_accuracy if facts.end_to_end else None


def _all_heads(facts: RunFacts) -> float | None:
    """The ensemble of all stages, where all are trained."""
    return facts.stages[-1].ensemble_accuracy if len(facts.trained) == len(facts.stages) else None


def differences_table(methods: Sequence[Method]) -> str:
    """Each method against the first, paired by seed, at the last stage that both have and in the ensemble; "" where
    nothing can be paired."""
    first, rows = methods[0], []
    for other in methods[1:]:
        try:
            found = compared(_scored(first), _scored(other))
        except RefusedError:  # no seed, or no stage, in common
            continue
        stages = [one for one in found.differences if one.what != ENSEMBLE]
        ends = [*stages[-1:], *(one for one in found.differences if one.what == ENSEMBLE)]
        rows += [[other.name, first.name, *_difference_row(one, other, first)] for one in ends]
    if not rows:
        return ""
    note = f"Intervals: {CONFIDENCE:.0%} by Student's t, over seeds paired, each row by itself; within noise: the "
    note += "interval holds 0. Of one run each nothing is known of the noise."
    columns = [" method", " less", " of", "difference, points", "interval", "pairs", " verdict"]
    return subsection("Differences", table(columns, rows) + paragraph(note, "note"))


def _difference_row(one: Difference, other: Method, first: Method) -> list[str]:
    interval = f"{one.interval.low:+.2f} .. {one.interval.high:+.2f}" if one.interval else "–"
    verdict = one.verdict.replace("B better", f"{other.name} better").replace("A better", f"{first.name} better")
    signed = (text.replace("-", "−") for text in (f"{one.difference:+.2f}", interval))
    return [one.what, *signed, str(one.a.n), verdict]


def _scored(method: Method) -> dict[int, Scored]:
    """What those of its runs that are trained the farthest scored, by seed."""
    return {
        facts.seed: Scored(facts.run.path, facts.seed, facts.run.info.digest, dict(_tests(facts)), {})
        for facts in ended(method)
    }


def _tests(facts: RunFacts) -> Iterator[tuple[str, float]]:
    for stage in facts.trained:
        if stage.test_accuracy is not None:
            yield f"stage {stage.j}", stage.test_accuracy
    if (together := _all_heads(facts)) is not None:
        yield ENSEMBLE, together


def mean(values: Sequence[float | None]) -> str:
    """In percent, with the deviation of several; a dash without any."""
    found = across([{0.0: value} for value in values if value is not None])
    return percent(found[0].y) + deviation(found[0].deviation) if found else percent(None)


def _mean_duration(values: Sequence[float]) -> str:
    total = sum(values)
    return duration(total / len(values)) if total else "–"
