"""What of a run is not finished, or stale, and what to type: the first lines of a page that has any."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from pipeline.evaluation import span
from pipeline.experiments.report.facts import RunFacts
from pipeline.experiments.report.page import bullets
from pipeline.runfolder import RunFolder
from pipeline.status import StageStatus


def open_ends(runs: Sequence[tuple[str, RunFacts]]) -> str:
    """What is not finished, or stale, and what else a reader must know, after each run's name; "" where there is
    nothing."""
    lines = [_after(name, line) for name, facts in runs for line in (*_unfinished(facts), *facts.warnings)]
    lines += [_after(name, line) for name, facts in runs for line in _branches(facts)]
    return f'<div class="alarm">{bullets(lines)}</div>' if lines else ""


def _unfinished(facts: RunFacts) -> Iterator[str]:
    """What to type where a stage is in the middle, damaged, or has something left; of those not begun, or stale, once
    for all in a row."""
    run = facts.run
    for state, row in groupby(facts.stages, key=lambda stage: stage.status.state):
        stages = list(row)
        which = f"{span(stages[0].j, stages[-1].j).capitalize()} {'is' if len(stages) == 1 else 'are'}"
        if state == "todo":
            yield f"{which} not trained yet" + (f": {run.run_command(stages[0].j)}" if stages[0].status.input else "")
        elif state == "stale":
            yield f"{which} stale: {stages[0].status.reason}"
        elif state != "done":
            yield from (f"Stage {stage.j} is {state}: {_with_run(run, stage.status)}" for stage in stages)


def _with_run(run: RunFolder, row: StageStatus) -> str:
    """Why a stage is in its state, and what trains it: with the command that does all that is left."""
    return row.reason.replace(run.train_command(row.j), run.run_command(row.j))


def _branches(facts: RunFacts) -> list[str]:
    return [
        f"Stage {one.j} is also there with other settings, test {one.test_accuracy:.2f}%: {'; '.join(one.changes)}"
        for one in facts.branches
    ]


def _after(name: str, line: str) -> str:
    """Which run is meant, where there are several."""
    return f"{name}: {line}" if name else line
