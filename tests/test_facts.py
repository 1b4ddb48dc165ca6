"""What a report knows of a run: trained, in the middle, damaged, or only ingested."""

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pipeline.device import choose_device
from pipeline.errors import CorruptDataError, Stopped
from pipeline.evaluation import evaluate
from pipeline.experiments.baseline import train_baseline
from pipeline.experiments.linear import fit_linear
from pipeline.experiments.probes import probe_folder
from pipeline.experiments.report.beside import Separability
from pipeline.experiments.report.facts import run_facts
from pipeline.metrics import read_metrics
from pipeline.opening import open_to_look
from pipeline.plan import PLAN
from pipeline.planning import outcomes
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from pipeline.stopping import never
from pipeline.training import train_stage
from tests.reports import made_plan, reported_run
from tests.runs import reopened, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return reported_run(tmp_path_factory.mktemp("facts") / "run")


@pytest.fixture
def run(whole: RunFolder, tmp_path: Path) -> RunFolder:
    return open_to_look(Path(shutil.copytree(whole.path, tmp_path / "run")), (), False)


def test_a_finished_run_is_known_as_its_records_have_it(whole: RunFolder) -> None:
    facts = run_facts(whole)
    assert [stage.status.state for stage in facts.stages] == ["done", "done"]
    assert facts.trained == facts.stages
    for stage in facts.stages:
        record = whole.stages[stage.j].record
        assert record is not None
        assert (stage.test_accuracy, stage.train_accuracy) == (record.test_accuracy, record.train_accuracy)
        assert (stage.validation_accuracy, stage.seconds) == (record.validation_accuracy, record.seconds)
        assert stage.peak_memory_bytes == record.peak_memory_bytes
        assert len(stage.epochs) == stage.due_epochs == 2
        assert (stage.planned_seconds, stage.planned_images_per_second) == (2.0, 50.0)
        assert stage.ended is not None
    assert [stage.planned_store_bytes for stage in facts.stages] == [2000, None]
    assert facts.stages[0].encoding is not None
    assert facts.stages[1].encoding is None, "nothing reads x_2"
    assert facts.config_text == (whole.path / "cascade.toml").read_text()
    assert facts.images_bytes > 0


def test_predictions_stay_once_a_plan_is_of_what_is_left(run: RunFolder) -> None:
    plan = made_plan(run)
    left = [
        msgspec.structs.replace(
            one, training_seconds=0.0, images_per_second=None, written_basis="stored", written_bytes=1
        )
        for one in plan.stages
    ]
    write_sealed(run.path / PLAN, msgspec.structs.replace(plan, predicted=plan.stages, stages=left))
    for stage, then in zip(run_facts(run).stages, (one.predicted for one in outcomes(run)), strict=True):
        assert stage.planned == then == plan.stages[stage.j]
    assert [stage.planned_store_bytes for stage in run_facts(run).stages] == [2000, None]


def test_a_prediction_is_of_the_settings_that_it_was_made_under(run: RunFolder) -> None:
    changed = open_to_look(run.path, ("train.epochs=1",), False)
    assert [stage.planned for stage in run_facts(changed).stages] == [None, None]
    accepted = open_to_look(run.path, ("train.lr=0.05",), False)
    write_sealed(run.path / PLAN, made_plan(accepted))
    stand_ins = run_facts(accepted, accepting=True).stages
    assert [stage.planned for stage in stand_ins] == [None, None], "it is of what they stand in for"


def test_a_store_that_was_there_is_no_prediction(run: RunFolder) -> None:
    plan = made_plan(run)
    there = [msgspec.structs.replace(one, written_basis="stored") for one in plan.stages]
    write_sealed(run.path / PLAN, msgspec.structs.replace(plan, stages=there))
    assert run_facts(run).stages[0].planned_store_bytes is None


def test_accuracies_are_of_the_weights_that_are_kept(whole: RunFolder) -> None:
    stage = run_facts(whole).stages[0]
    assert stage.record is not None
    kept = msgspec.structs.replace(stage.record, train_accuracy=12.5, validation_accuracy=25.0)
    assert stage.epochs[-1].train_accuracy != 12.5
    best = replace(stage, record=kept)
    assert (best.train_accuracy, best.validation_accuracy) == (12.5, 25.0)


def test_the_ensemble_by_depth_ends_in_what_evaluate_says(whole: RunFolder) -> None:
    first, last = (stage.ensemble_accuracy for stage in run_facts(whole).stages)
    evaluation = evaluate(whole)
    assert (first, last) == (evaluation.stages[0].top1, evaluation.ensemble.top1)


def test_a_run_that_is_only_ingested_has_facts_too(tmp_path: Path) -> None:
    facts = run_facts(tiny_run(tmp_path / "run"))
    assert (list(facts.trained), list(facts.warnings)) == ([], [])
    assert all(stage.seconds is stage.peak_memory_bytes is stage.images_per_second is None for stage in facts.stages)
    assert facts.stages[0].wait_share == 0.0


def test_a_stage_in_the_middle_counts_its_epochs_so_far(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    with pytest.raises(Stopped):
        train_stage(run, 0, CPU, Reporter(), should_stop=lambda: bool(read_metrics(run.stages[0])))
    stage = run_facts(reopened(run.path)).stages[0]
    assert (stage.status.state, len(stage.epochs), stage.record, stage.test_accuracy) == ("partial", 1, None, None)
    assert stage.train_accuracy == stage.epochs[0].train_accuracy
    assert stage.seconds == stage.epochs[0].seconds


@pytest.mark.parametrize("name", ["metrics.jsonl", "scale.float16.json", "test_logits.safetensors"])
def test_damage_beside_a_record_is_a_warning(run: RunFolder, name: str) -> None:
    path = run.stages[0].path / name
    path.write_bytes(path.read_bytes()[:-40])
    facts = run_facts(run)
    assert any(name in line for line in facts.warnings)
    assert facts.stages[0].test_accuracy is not None


def test_a_damaged_plan_is_a_warning_with_its_remedy(whole: RunFolder, run: RunFolder) -> None:
    (run.path / "plan.json").write_text("{}")
    facts = run_facts(run)
    assert any("plan.json is damaged" in line and "cascade plan makes it again" in line for line in facts.warnings)
    assert facts.stages[0].planned is None


def test_a_damaged_record_ends_the_command_as_it_ends_status(run: RunFolder) -> None:
    run.stages[0].record_path.write_text("{}")
    with pytest.raises(CorruptDataError, match=r"stage\.json is damaged"):
        run_facts(run)


def test_stale_stages_are_told_of_and_accepted_where_that_is_asked_for(run: RunFolder) -> None:
    changed = open_to_look(run.path, ("train.lr=0.05",), False)
    facts = run_facts(changed)
    assert [stage.status.state for stage in facts.stages] == ["stale", "stale"]
    assert [branch.j for branch in facts.branches] == [0, 1]
    accepted = run_facts(changed, accepting=True)
    assert [stage.test_accuracy is None for stage in accepted.stages] == [False, False]
    assert "accepted though stale: stage 0 (train.lr 0.1 -> 0.05)" in accepted.warnings[0]


def test_probes_and_the_network_end_to_end_are_known_where_they_are_there(run: RunFolder) -> None:
    assert (run_facts(run).separability, run_facts(run).end_to_end) == ([], None)
    record = train_baseline(run, CPU, Reporter())
    probe = fit_linear(run, 1, CPU, Reporter(), should_stop=never)
    facts = run_facts(run)
    assert facts.end_to_end == record
    assert facts.separability == [Separability(probe="linear", j=1, test_accuracy=probe.test_accuracy)]
    path = probe_folder(run, 1, "linear").path / "probe.json"
    path.write_bytes(path.read_bytes().replace(b'"samples": ', b'"samples": 1'))
    facts = run_facts(run)
    assert facts.separability == []
    assert any("probe.json" in warning for warning in facts.warnings)
