"""Figures of what was measured, beside what was planned."""

from dataclasses import replace

import msgspec
import pytest

from pipeline.experiments.report.facts import RunFacts, run_facts
from tests.reports import by_name, reported_run, values
from tests.runs import epoch_record


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return run_facts(reported_run(tmp_path_factory.mktemp("figures") / "run"))


def test_costs_stand_beside_what_was_planned(facts: RunFacts) -> None:
    made = by_name([facts])
    assert values(made["time"], "predicted") == {0: 2, 1: 2}
    assert values(made["time"], "measured") == {stage.j: stage.seconds for stage in facts.stages}
    assert values(made["throughput"], "predicted").keys() == {0, 1}
    assert values(made["memory"], "predicted") == {}, "nothing limits it on a CPU"
    disk = values(made["disk"], "measured")
    assert disk.keys() == {0, 1}
    assert disk[0] / disk[1] == pytest.approx(facts.images_bytes / facts.stages[0].status.store_bytes)
    assert values(made["disk"], "predicted").keys() == {1}


def test_only_a_prediction_before_compression_is_called_a_bound(facts: RunFacts) -> None:
    first = facts.stages[0]
    assert first.planned is not None
    bound = replace(first, planned=msgspec.structs.replace(first.planned, written_basis="bound"))
    assert "bound" not in by_name([facts])["disk"].description
    assert "is a bound, before compression" in by_name([replace(facts, stages=[bound])])["disk"].description


def test_images_a_second_of_a_stage_are_all_its_images_over_all_its_time(facts: RunFacts) -> None:
    epochs = [
        msgspec.structs.replace(epoch_record(epoch), images_per_second=rate)
        for epoch, rate in enumerate((100.0, 300.0))
    ]
    stage = replace(facts.stages[0], epochs=epochs)
    assert values(by_name([replace(facts, stages=[stage])])["throughput"], "measured") == {0: pytest.approx(150)}


def test_the_time_of_a_stage_in_the_middle_is_shown_and_is_no_part_of_a_mean(facts: RunFacts) -> None:
    begun = replace(facts, stages=[replace(stage, record=None) for stage in facts.stages])
    assert values(by_name([begun])["time"], "measured").keys() == {0, 1}
    assert {point.n for point in by_name([facts, begun])["time"].series[0].points} == {1}
