"""What experiments left beside the stages, in a report: refits, transfers, compression."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pipeline.device import choose_device
from pipeline.experiments.linear_transfer import Row, Settings, Transfer, transfer
from pipeline.experiments.places import TRANSFER
from pipeline.experiments.refit import refit_last
from pipeline.experiments.report.beside import Refitted
from pipeline.experiments.report.experiments import compression_table, refits_table, transfers_table
from pipeline.experiments.report.facts import RunFacts, run_facts
from pipeline.experiments.statistics import Mean
from pipeline.opening import open_to_look
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.runs import run_stages
from tests.reports import by_name, reported_run, values
from tests.runs import reopened, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two stages, a refit of the last, and a transfer of x_1."""
    run = reported_run(tmp_path_factory.mktemp("experiments") / "run")
    refit_last(run, 4, "cpu", Reporter())
    asked = Settings(data=run.config.data.source, per_class=2, splits=2, seed=0, skip_small=True, skip_bad=False)
    transfer(run, asked, [1], CPU, Reporter())
    return open_to_look(run.path, (), False)


@pytest.fixture(scope="module")
def facts(run: RunFolder) -> RunFacts:
    return run_facts(run)


def made_up(*rows: tuple[int, float], name: str = "npz:/data/other.npz") -> Transfer:
    """Of x_j and its accuracy, over three splits."""
    return Transfer(
        key="0",
        data=name,
        classes=["a", "b"],
        left_out=[],
        images=9,
        per_class=3,
        splits=3,
        seed=0,
        device="cpu",
        versions={},
        rows=[
            Row(
                j=j,
                key="0",
                features=4,
                components=4,
                accuracy=Mean(mean=accuracy, deviation=1.5, n=3),
                by_split=[accuracy] * 3,
                converged=3,
                seconds=0.5,
            )
            for j, accuracy in rows
        ],
    )


def test_a_refit_is_known_with_the_ensemble_that_has_it(facts: RunFacts) -> None:
    (refit,) = facts.refits
    assert (refit.head_width, refit.state) == (4, "done")
    assert refit.record is not None
    figure = by_name([facts])["last-heads"]
    assert figure.rows == ("head 8, its own", "head 4")
    assert values(figure, "head") == {0: facts.stages[1].test_accuracy, 1: refit.record.test_accuracy}
    assert values(figure, "ensemble") == {0: facts.stages[1].ensemble_accuracy, 1: refit.ensemble_accuracy}
    page = refits_table(facts)
    assert f"{refit.record.test_accuracy:.2f}" in page
    assert f"{sum(refit.record.parameters.values()):,}" in page


def test_a_refit_that_has_only_begun_says_how_far_it_is(facts: RunFacts) -> None:
    begun = Refitted(head_width=2, state="partial", reason="1 of 2 epochs", record=None, ensemble_accuracy=None)
    some = replace(facts, refits=[begun, *facts.refits])
    assert "<td>partial</td>" in refits_table(some)
    assert "1 of 2 epochs" in refits_table(some)
    assert by_name([some])["last-heads"].rows == ("head 8, its own", "head 4"), "it has no accuracy"
    assert refits_table(replace(facts, refits=[])) == ""


def test_a_transfer_is_a_line_by_depth_with_the_deviation_over_splits(facts: RunFacts) -> None:
    (record,) = facts.transfers
    assert [row.j for row in record.rows] == [1]
    figure = by_name([replace(facts, transfers=[made_up((1, 60.0), (2, 70.0))])])["transfer"]
    (series,) = figure.series
    assert series.name == "other, 3 each"
    assert [(point.x, point.y, point.deviation, point.n) for point in series.points] == [
        (1, 60, 1.5, 3),
        (2, 70, 1.5, 3),
    ]
    assert "over random splits" in figure.description


def test_transfers_of_several_runs_give_their_mean(facts: RunFacts) -> None:
    runs = [replace(facts, transfers=[made_up((1, accuracy))]) for accuracy in (60.0, 70.0)]
    figure = by_name(runs)["transfer"]
    assert values(figure, "other, 3 each") == {1: 65}
    assert figure.series[0].points[0].n == 2
    assert "over runs" in figure.description


def test_a_table_has_a_row_for_each_depth_and_data_set(facts: RunFacts) -> None:
    two = [made_up((0, 50.0), (1, 60.0)), made_up((1, 40.0), name="folder:/data/cells")]
    page = transfers_table(replace(facts, transfers=two), "seed 1")
    assert page.count("<tr>") == 1 + 3
    assert "<h3>Transfer, seed 1</h3>" in page
    assert "<td>other, 3 each</td><td>images</td>" in page
    assert "<td>cells, 3 each</td><td>x_1</td>" in page
    assert "± 1.50" in page
    assert transfers_table(replace(facts, transfers=[])) == ""


def test_a_transfer_of_other_blocks_is_left_out_and_a_damaged_one_is_told_of(run: RunFolder) -> None:
    assert run_facts(reopened(run.path, "train.lr=0.05")).transfers == []
    (path,) = (run.path / TRANSFER).glob("*/record.json")
    before = path.read_bytes()
    path.write_bytes(before[:-40])
    facts = run_facts(run)
    path.write_bytes(before)
    assert facts.transfers == []
    assert any("record.json" in warning for warning in facts.warnings)


def test_compression_shows_filters_before_and_after_and_its_epochs(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "compress.keep=0.5", "compress.epochs=1")
    run_stages(run, None, None, "cpu", Reporter())
    facts = run_facts(open_to_look(run.path, (), False))
    figures = by_name([facts])
    assert values(figures["filters"], "kept") == {0: 2, 1: 4}
    assert values(figures["filters"], "as trained") == {0: 4, 1: 8}
    assert [(stage.due_epochs, len(stage.epochs)) for stage in facts.stages] == [(3, 3), (3, 3)]
    assert figures["accuracy-by-epoch"].x_range == (0, 6)
    before, after = facts.stages[1].epochs[1], facts.stages[1].record
    assert after is not None
    values_of = (before.train_accuracy, before.validation_accuracy, after.train_accuracy, after.validation_accuracy)
    cells = "".join(f"<td class=number>{value:.2f}</td>" for value in (*values_of, after.test_accuracy))
    assert f"<td class=number>8 → 4</td>{cells}" in compression_table(facts)
    assert compression_table(facts).count("<tr>") == 1 + 2


def test_a_network_that_is_not_cut_has_no_figure_of_filters(facts: RunFacts) -> None:
    assert "filters" not in by_name([facts])
    assert compression_table(facts) == ""


def test_the_last_head_is_a_row_though_the_stage_itself_is_not_there(facts: RunFacts) -> None:
    bare = replace(facts.stages[1], record=None, ensemble_accuracy=None)
    record = facts.refits[0].record
    assert record is not None
    better = replace(facts.refits[0], record=msgspec.structs.replace(record, test_accuracy=77.0))
    figure = by_name([replace(facts, stages=[facts.stages[0], bare], refits=[better])])["last-heads"]
    assert values(figure, "head") == {1: 77}
