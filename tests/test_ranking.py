"""Filters ranked, and stages that go on thinner: from training to the network that is loaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cascade import strongest, taylor_scores
from pipeline import fit
from pipeline.checkpoint import load_checkpoint, read_position
from pipeline.device import autocast, choose_device
from pipeline.errors import Stopped
from pipeline.evaluation import evaluate
from pipeline.feed import Feed
from pipeline.learner import make_learner
from pipeline.metrics import read_metrics
from pipeline.networks import load_network
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
from pipeline.ranking import filter_scores
from pipeline.runfolder import RunFolder
from pipeline.stopping import never
from pipeline.training import train_stage
from pipeline.verify import verify
from tests.runs import tiny_run
from tests.trained import files_of

CPU = choose_device("cpu")
CUT = ("compress.keep=0.5", "compress.epochs=2", "head.k=2")
STEPS = 3
"""Of an epoch of a tiny run, whose batches ranking takes too."""


def compressed_run(folder: Path, *settings: str) -> RunFolder:
    return tiny_run(folder, *CUT, *settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two stages of 4 and 8 filters, of which 2 and 4 are left; not to be changed."""
    run = compressed_run(tmp_path_factory.mktemp("trained") / "run")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    return run


def test_scores_are_the_means_over_an_epoch_whatever_the_micro_batch(tmp_path: Path) -> None:
    run = compressed_run(tmp_path / "run", "train.batch_size=16", "network.bn_group=8", "network.precision=float32")
    learner, feed = make_learner(run, stage_problem(run, 0), CPU), Feed(run, 0, CPU)
    scores = filter_scores(learner, feed, 2, Reporter(), never)
    learner.train(False)
    total, seen = torch.zeros(4, dtype=torch.float64), 0
    for x, y in feed.training(2):
        with autocast(CPU, feed.dtype):
            total += taylor_scores(learner.block(x), y, learner.head)
        seen += len(y)
    torch.testing.assert_close(scores, total / seen)
    parts = filter_scores(learner, Feed(run, 0, CPU, micro_batch=8), 2, Reporter(), never)
    torch.testing.assert_close(parts, scores, rtol=1e-5, atol=1e-9)
    assert all(parameter.requires_grad for parameter in learner.head.parameters())


def test_ranking_moves_no_weight_no_running_statistic_and_no_momentum(tmp_path: Path) -> None:
    run = compressed_run(tmp_path / "run")
    learner = make_learner(run, stage_problem(run, 0), CPU)
    before = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    filter_scores(learner, Feed(run, 0, CPU), 2, Reporter(), never)
    assert all(tensor.equal(before[name]) for name, tensor in learner.tensors().items())


def test_once_filters_are_cut_a_step_moves_the_head_alone(tmp_path: Path) -> None:
    run = compressed_run(tmp_path / "run")
    learner = make_learner(run, stage_problem(run, 0), CPU)
    learner.keep([1, 3])
    before = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    learner.train(True)
    x, y = next(Feed(run, 0, CPU).training(0))
    learner.optimiser.begin()
    torch.autograd.backward(torch.nn.functional.cross_entropy(learner.logits(x.float()), y))
    learner.optimiser.step()
    moved = {name for name, tensor in learner.tensors().items() if not tensor.equal(before[name])}
    assert moved
    assert not any(name.startswith(("block.", "momentum.block.")) for name in moved)


def test_a_stage_keeps_the_filters_that_score_highest_at_the_end_of_its_training(
    tmp_path: Path, trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = compressed_run(tmp_path / "run")

    def stop(*_: object) -> None:
        raise Stopped("before anything is cut")

    monkeypatch.setattr(fit, "filter_scores", stop)
    with pytest.raises(Stopped):
        train_stage(run, 0, CPU, Reporter())
    learner, feed = make_learner(run, stage_problem(run, 0), CPU), Feed(run, 0, CPU)
    load_checkpoint(run.stages[0], learner, Reporter(), batch_size=feed.batch_size, epoch_samples=feed.epoch_samples)
    kept = strongest(filter_scores(learner, feed, 2, Reporter(), never), 2)
    record = trained.stages[0].record
    assert record is not None
    assert record.kept == kept
    assert kept != [0, 1], "the first two would be kept too if scores were ignored"


def test_the_head_is_tuned_by_a_cosine_over_the_epochs_of_the_tuning(tmp_path: Path) -> None:
    run = compressed_run(tmp_path / "run", "train.schedule=cosine", "train.epochs=1")
    train_stage(run, 0, CPU, Reporter())
    assert [epoch.lr for epoch in read_metrics(run.stages[0])] == pytest.approx([0.1, 0.01, 0.005])


def test_stages_go_on_with_what_is_left(trained: RunFolder) -> None:
    assert [(shape.in_channels, shape.cut_from, shape.out_channels) for shape in trained.shapes] == [
        (1, 4, 2),
        (2, 8, 4),
    ]
    assert trained.open_store(1, "train").sample_shape == (2, 8, 8)
    for stage, count in zip(trained.stages, (2, 4), strict=True):
        assert stage.record is not None
        assert len(stage.record.kept) == count
        assert stage.record.kept == sorted(set(stage.record.kept))
        epochs = read_metrics(stage)
        assert [epoch.lr for epoch in epochs] == pytest.approx([0.1, 0.02, 0.01, 0.002]), "the schedule begins anew"
    assert not any(row.damage for row in verify(trained, Reporter()))


def test_a_network_that_was_compressed_is_loaded_and_evaluated(trained: RunFolder) -> None:
    images = torch.rand(3, 1, 8, 8)
    assert load_network(trained, 1)(images).shape == (3, trained.classes)
    assert evaluate(trained).stages.keys() == evaluate(trained, recompute_on=CPU).stages.keys() == {0, 1}


@pytest.mark.parametrize("stops_after", range(1, 5 * STEPS + 2, 2))
def test_a_stage_that_was_stopped_anywhere_ends_in_the_same_bytes(
    tmp_path: Path, trained: RunFolder, stops_after: int
) -> None:
    run = compressed_run(tmp_path / "run")
    asked = iter([False] * stops_after)
    with pytest.raises(Stopped):
        train_stage(run, 0, CPU, Reporter(), should_stop=lambda: next(asked, True))
    train_stage(run, 0, CPU, Reporter())
    for path in (trained.stages[0].block, trained.stages[0].head, trained.stages[0].test_logits):
        assert (run.stages[0].path / path.name).read_bytes() == path.read_bytes()


def test_a_stop_while_the_head_is_tuned_leaves_a_checkpoint_that_names_the_filters(tmp_path: Path) -> None:
    run = compressed_run(tmp_path / "run")
    asked = iter([False] * (3 * STEPS + 2))
    with pytest.raises(Stopped):
        train_stage(run, 0, CPU, Reporter(), should_stop=lambda: next(asked, True))
    position = read_position(run.stages[0])
    assert position is not None
    assert position.epochs >= 2
    assert len(position.kept) == 2


def test_status_shows_what_is_cut(trained: RunFolder, tmp_path: Path, cascade: Callable[..., Any]) -> None:
    before = files_of(trained.path)
    rows = json.loads(cascade("status", "--run", trained.path, "--json")[1])["stages"]
    assert [row["reason"].partition(";")[0] for row in rows] == ["4 -> 2 filters", "8 -> 4 filters"]
    assert files_of(trained.path) == before


def test_one_stage_alone_may_be_compressed(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "stages.0.compress.keep=0.25", "stages.0.compress.epochs=1")
    assert [shape.cut_from for shape in run.shapes] == [4, None]
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    records = [stage.record for stage in run.stages]
    assert [len(record.kept) for record in records if record] == [1, 0]
    assert [len(read_metrics(stage)) for stage in run.stages] == [3, 2]
