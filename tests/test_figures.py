"""Figures from what is known of runs."""

import math
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pipeline.experiments.report.beside import Separability
from pipeline.experiments.report.facts import RunFacts, run_facts
from pipeline.experiments.report.figure import PERCENT
from pipeline.experiments.report.svg import drawn
from pipeline.progress import Reporter
from pipeline.runs import run_stages
from tests.reports import by_name, reported_run, values
from tests.runs import tiny_run


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return run_facts(reported_run(tmp_path_factory.mktemp("figures") / "run"))


def better(facts: RunFacts, by: float) -> RunFacts:
    """The same run with other test accuracies."""
    stages = [
        replace(
            stage,
            record=stage.record
            and msgspec.structs.replace(stage.record, test_accuracy=stage.record.test_accuracy + by),
        )
        for stage in facts.stages
    ]
    return replace(facts, stages=stages)


def test_accuracy_by_depth_is_that_of_the_records(facts: RunFacts) -> None:
    figure = by_name([facts])["accuracy-by-depth"]
    for name in ("train", "validation", "test"):
        expected = {stage.j: getattr(stage.record, f"{name}_accuracy") for stage in facts.stages}
        assert values(figure, name) == expected
    assert figure.y_limits == (0, 100)


def test_several_runs_give_the_mean_and_the_deviation(facts: RunFacts) -> None:
    (series,) = [one for one in by_name([facts, better(facts, 4.0)])["accuracy-by-depth"].series if one.name == "test"]
    was = facts.stages[0].test_accuracy
    assert was is not None
    point = series.points[0]
    assert (point.x, point.n) == (0, 2)
    assert point.y == pytest.approx(was + 2)
    assert point.deviation == pytest.approx(math.sqrt(8))


def test_epochs_of_all_stages_stand_in_turn_each_stage_a_line_of_its_own(facts: RunFacts) -> None:
    figure = by_name([facts])["accuracy-by-epoch"]
    assert [[point.x for point in segment] for segment in figure.series[0].segments] == [[1, 2], [3, 4]]
    assert (figure.x_range, figure.divisions) == ((0, 4), ((0, "stage 0"), (2, "stage 1")))
    assert values(figure, "train")[3] == facts.stages[1].epochs[0].train_accuracy


def test_an_axis_holds_the_stages_that_are_not_trained_yet(facts: RunFacts) -> None:
    first = replace(
        facts, stages=[facts.stages[0], replace(facts.stages[1], record=None, epochs=[], ensemble_accuracy=None)]
    )
    figure = by_name([first])["accuracy-by-depth"]
    assert figure.x_range == pytest.approx((-0.3, 1.3))
    assert values(figure, "test").keys() == {0}
    assert values(by_name([first])["time"], "predicted").keys() == {0, 1}


def test_percents_are_labelled_with_the_decimals_of_the_tables(facts: RunFacts) -> None:
    probes = [Separability(probe="linear", j=1, test_accuracy=51.75)]
    shown = by_name([replace(facts, separability=probes)])
    percents = [figure for figure in shown.values() if figure.y_limits == PERCENT]
    assert {(figure.digits, figure.label_digits) for figure in percents} == {(2, 2)}
    assert "linear 51.75" in drawn(shown["separability"])


def test_the_risk_of_stages_that_keep_their_best_point_has_a_line(facts: RunFacts, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "train.keep=best", "augment.padding=0", "augment.policy=none")
    run_stages(run, None, None, "cpu", Reporter())
    best = [stage.record.best for stage in run.stages if stage.record]
    made = by_name([run_facts(run)])
    assert values(made["training-risk"], "start") == {j: one.start_risk for j, one in enumerate(best) if one}
    assert values(made["training-risk"], "kept") == {j: one.risk for j, one in enumerate(best) if one}
    assert "on all training images at the point that is kept." in made["accuracy-by-depth"].description
    assert not any("augmented" in figure.description for figure in made.values())
    assert "training-risk" not in by_name([facts])
    assert "on the augmented training images of its last epoch." in by_name([facts])["accuracy-by-depth"].description


def test_what_is_not_there_has_no_figure(facts: RunFacts, tmp_path: Path) -> None:
    assert "separability" not in by_name([facts])
    assert by_name([run_facts(tiny_run(tmp_path / "run"))]).keys() == {"disk"}


def test_probes_have_a_line_each_over_every_j(facts: RunFacts) -> None:
    probes = [Separability(probe=probe, j=j, test_accuracy=50.0 + j) for probe in ("linear", "CNN-1") for j in range(3)]
    figure = by_name([replace(facts, separability=probes)])["separability"]
    assert [series.name for series in figure.series] == ["linear", "CNN-1"]
    assert values(figure, "CNN-1") == {0: 50, 1: 51, 2: 52}
    assert figure.x_range == pytest.approx((-0.3, 2.3))


def test_the_network_trained_as_a_whole_is_a_level_beside_the_ensemble(facts: RunFacts) -> None:
    record = facts.stages[1].record
    assert record is not None
    whole = msgspec.structs.replace(record, test_accuracy=91.5)
    figure = by_name([replace(facts, end_to_end=whole)])["ensemble-by-depth"]
    level = values(figure, "end to end")
    assert set(level.values()) == {91.5}
    assert (min(level), max(level)) == figure.x_range
    assert "end to end" in figure.description
