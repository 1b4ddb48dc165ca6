"""What a report says beside its figures."""

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pipeline.experiments.report import openends, sections
from pipeline.experiments.report.facts import RunFacts, run_facts
from pipeline.experiments.report.methods import Method
from pipeline.opening import open_to_look
from pipeline.progress import size
from pipeline.record import Kept
from tests.reports import reported_run


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return replace(run_facts(reported_run(tmp_path_factory.mktemp("sections") / "run")), warnings=[])


def in_states(facts: RunFacts, *states: str) -> RunFacts:
    """Made-up stages in these states; only those done or trained have a record."""
    stage = facts.stages[0]
    stages = [
        replace(
            stage,
            status=replace(stage.status, j=j, state=state, reason=f"reason {j}"),
            record=stage.record if state in ("done", "trained") else None,
            epochs=[] if state == "todo" else stage.epochs,
        )
        for j, state in enumerate(states)
    ]
    return replace(facts, stages=stages)


def open_ends(*runs: RunFacts) -> str:
    """Of the runs of one method."""
    method = Method("", {}, runs, "first")
    return openends.open_ends([(method.named(facts, alone=True), facts) for facts in runs])


def test_what_is_not_finished_is_said_once_in_a_row_and_with_its_reason(facts: RunFacts) -> None:
    run, said = facts.run, open_ends(in_states(facts, "done", "trained", "partial", "stale", "stale", "todo", "todo"))
    assert said.count("<li>") == 4
    assert "<li>Stage 1 is trained: reason 1</li><li>Stage 2 is partial: reason 2</li>" in said
    assert "<li>Stages 3..4 are stale: reason 3</li><li>Stages 5..6 are not trained yet: " in said
    assert f"not trained yet: {run.command('run')}</li>" in said
    assert open_ends(in_states(facts, "done", "done")) == ""


def test_what_is_typed_trains_all_that_is_left(facts: RunFacts) -> None:
    begun = in_states(facts, "partial", "todo")
    reason = f"1 of 2 epochs: {facts.run.train_command(0)}"
    first = replace(begun.stages[0], status=replace(begun.stages[0].status, reason=reason))
    said = open_ends(replace(begun, stages=[first, begun.stages[1]]))
    assert f"<li>Stage 0 is partial: 1 of 2 epochs: {facts.run.command('run')}</li>" in said
    assert "train-stage" not in said


def test_notes_stand_below_the_stages_once_for_those_in_a_row(facts: RunFacts) -> None:
    noted = in_states(facts, "done", "done", "done")
    stages = [replace(one, status=replace(one.status, reason="a note" if one.j else "")) for one in noted.stages]
    shown = sections.stages_table(replace(noted, stages=stages), "")
    assert shown.endswith("</table></div><ul class=note><li>Stages 1..2: a note</li></ul>")
    assert "note</th>" not in shown
    record = noted.stages[2].record
    assert record is not None
    for epochs, said in ((0, "kept as it started"), (1, "kept after 1 epoch")):
        best = msgspec.structs.replace(record, best=Kept(epochs=epochs, risk=0.5, accuracy=50.0, start_risk=1.0))
        shown = sections.stages_table(replace(noted, stages=[*stages[:2], replace(stages[2], record=best)]), "")
        assert f"<li>Stage 1: a note</li><li>Stage 2: {said}; a note</li>" in shown


def test_a_stage_that_only_waits_for_others_has_no_reason_of_its_own(facts: RunFacts) -> None:
    waiting = in_states(facts, "partial", "todo", "todo")
    stages = [waiting.stages[0], *(replace(one, status=replace(one.status, input=None)) for one in waiting.stages[1:])]
    assert "<li>Stages 1..2 are not trained yet</li>" in open_ends(replace(waiting, stages=stages))


def test_stages_of_other_settings_are_named(facts: RunFacts) -> None:
    looked = run_facts(open_to_look(facts.run.path, ("train.lr=0.05",), False))
    assert "also there with other settings" in open_ends(looked)
    assert "train.lr 0.1 -&gt; 0.05" in open_ends(looked)


def test_runs_of_one_seed_are_told_apart_by_their_folders(facts: RunFacts) -> None:
    assert f"<li>{facts.name}: Stage 0" in open_ends(in_states(facts, "todo"), facts)


def test_many_stages_are_folded_away(facts: RunFacts) -> None:
    few, many = (in_states(facts, *["done"] * count) for count in (16, 17))
    assert sections.stages_table(few, "").startswith("<h3>")
    assert sections.stages_table(many, "").startswith("<details>")


def test_the_first_numbers_are_of_the_last_stage_that_all_runs_have(facts: RunFacts) -> None:
    begun = replace(facts, stages=[facts.stages[0], replace(facts.stages[1], record=None)])
    head = sections.head([facts, begun])
    assert "test accuracy of stage 0" in head
    assert "3 of 4" in head
    assert "ensemble" not in head, "of one head"
    assert "of training so far" in head


def test_nothing_trained_has_no_accuracy_and_no_time_left_unsaid(facts: RunFacts) -> None:
    assert "accuracy" not in sections.head([in_states(facts, "todo", "todo")])
    assert "What is left is planned to take 6.0 s." in sections.totals([in_states(facts, "todo", "todo")])


def test_images_that_seeds_share_are_counted_once(facts: RunFacts, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    shutil.copytree(facts.run.path, linked, ignore=shutil.ignore_patterns("x_0"))
    (linked / "x_0").symlink_to(facts.run.path / "x_0")
    other = run_facts(open_to_look(linked, (), False))
    once = size(2 * facts.stored_bytes - facts.images_bytes)
    assert f"<dt>stored on disk now</dt><dd>{once}</dd>" in sections.head([facts, other])
    own = run_facts(open_to_look(Path(shutil.copytree(facts.run.path, tmp_path / "own")), (), False))
    assert f"<dd>{size(2 * facts.stored_bytes)}</dd>" in sections.head([facts, own])


def test_a_folder_is_not_titled_by_what_it_lies_in_because_its_name_is_a_number(
    facts: RunFacts, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(facts.run.path, tmp_path / "2024"))
    assert sections.title([run_facts(open_to_look(folder, (), False))]) == "2024"


def test_what_is_left_of_a_stage_in_the_middle_are_the_epochs_that_it_has_not_had(facts: RunFacts) -> None:
    stage = replace(facts.stages[0], record=None)
    assert stage.planned is not None
    assert (stage.due_epochs, len(stage.epochs), stage.planned.training_seconds) == (2, 2, 2.0)
    images = facts.run.info.samples["train"]
    planned = msgspec.structs.replace(stage.planned, images_per_second=float(images))
    begun = replace(stage, epochs=stage.epochs[:1], planned=planned)
    untouched = replace(begun, epochs=[])
    assert [one.planned_left(images) for one in (untouched, begun)] == [3.0, 2.0]
    of_the_rest = replace(begun, planned=msgspec.structs.replace(planned, training_seconds=1.0))
    assert of_the_rest.planned_left(images) == 2.0, "a plan that was made in the middle"
    assert replace(begun, record=facts.stages[0].record).planned_left(images) == 0
    assert "What is left is planned to take 2.0 s." in sections.totals([replace(facts, stages=[begun])])


def test_folders_that_are_only_seeds_are_titled_by_what_they_are_of(facts: RunFacts, tmp_path: Path) -> None:
    runs = [run_facts(reported_run(tmp_path / "cifar" / "seeds" / str(seed), f"seed={seed}")) for seed in (0, 1)]
    assert sections.title(runs) == "cifar"
    assert sections.title([facts]) == "run"
    assert "seed 1: Stage 0" in open_ends(runs[0], in_states(runs[1], "todo"))
