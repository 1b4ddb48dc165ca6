"""Progressive improvement (Prop. 3.1): started as the identity, and kept at its best, a stage is never worse than the
one before; and what keeps the best point survives what a stage survives."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import fit
from pipeline.checkpoint import load_checkpoint
from pipeline.device import choose_device
from pipeline.errors import CorruptDataError, Stopped
from pipeline.evaluation import training_risk
from pipeline.feed import Feed
from pipeline.learner import make_learner
from pipeline.metrics import read_metrics
from pipeline.networks import load_block, load_head
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder
from pipeline.step import train_step
from pipeline.training import train_stage
from pipeline.weights import load_tensors, save_tensors
from tests.configs import faults, loaded
from tests.runs import bytes_of, copied, tiny_run

CPU = choose_device("cpu")
FIXED = (
    "network.stages=4",
    "network.batch_norm=false",
    "network.downsample_at=[]",
    "network.precision=float32",
    "head.k=1",
    "augment.padding=0",
    "augment.policy=none",
    "store.encoding=float32",
)
"""k = 1, no batch norm, nothing rounded, one rendering."""
PROPOSITION = (*FIXED, "train.start=identity", "train.keep=best")
TOO_FAST = ("train.lr=1", "train.epochs=3", "train.lr_drop_every=9")
"""With which the last weights are often worse than the first."""


def record_of(run: RunFolder, j: int) -> StageRecord:
    record = run.stages[j].record
    assert record is not None
    return record


def trained(folder: Path, *settings: str, stages: int = 4) -> RunFolder:
    run = tiny_run(folder, *settings)
    for j in range(stages):
        train_stage(run, j, CPU, Reporter())
    return run


def kept_risk(run: RunFolder, j: int) -> float:
    """The training risk of what was kept of a stage, over the whole training set."""
    block, head = load_block(run, j), load_head(run, j)
    return training_risk(Feed(run, j, CPU), lambda x: head(block(x))).loss


@pytest.mark.parametrize("seed", range(4))
def test_training_risk_never_rises_from_a_stage_to_the_next(tmp_path: Path, seed: int) -> None:
    run = trained(tmp_path / "run", *PROPOSITION, *TOO_FAST, f"seed={seed}")
    kept = [record_of(run, j).best for j in range(4)]
    risks = [kept_risk(run, j) for j in range(4)]
    assert risks == [point.risk for point in kept if point]
    assert risks == sorted(risks, reverse=True)
    assert [point.start_risk for point in kept[1:] if point] == risks[:-1], "each starts where the one before ended"
    assert risks[-1] < risks[0], "and the cascade gains"


def test_the_last_weights_of_the_same_stages_do_get_worse(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", *FIXED, *TOO_FAST, "train.start=identity", stages=2)
    assert kept_risk(run, 1) > kept_risk(run, 0)


def test_a_stage_starts_as_the_identity_with_the_head_before_it(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", *FIXED, "train.start=identity", stages=1)
    learner, head = make_learner(run, stage_problem(run, 1), CPU), load_head(run, 0)
    x = torch.rand(3, run.shapes[1].in_channels, 8, 8)
    assert torch.equal(learner.block(x), x)
    assert torch.equal(learner.logits(x), head(x))
    assert not torch.equal(make_learner(run, stage_problem(run, 0), CPU).block(x[:, :1]), x[:, :1].expand_as(x)), (
        "but not stage 0"
    )


@pytest.mark.parametrize("policy", ["none", "views", "canvas", "recompute"])
def test_best_point_is_the_least_risk_of_a_fixed_pass_whatever_is_stored(tmp_path: Path, policy: str) -> None:
    settings = [setting for setting in PROPOSITION if setting not in ("augment.policy=none", "augment.padding=0")]
    run = trained(tmp_path / "run", *settings, *TOO_FAST, "augment.padding=1", f"augment.policy={policy}", stages=2)
    replayed = copied(run, tmp_path / "replayed", "cache.keep=none")
    for j in range(2):
        record, epochs = record_of(run, j), read_metrics(run.stages[j])
        assert record.best
        risks = [record.best.start_risk, *(epoch.train_risk for epoch in epochs)]
        assert record.best.risk == min(risk for risk in risks if risk is not None)
        assert record.best.epochs == risks.index(record.best.risk)
        block, head = load_block(run, j), load_head(run, j)
        assert training_risk(Feed(replayed, j, CPU, anchor=0), lambda x: head(block(x))).loss == record.best.risk  # noqa: B023


def test_last_weights_are_kept_unless_the_best_are_asked_for(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", *FIXED, stages=1)
    assert record_of(run, 0).best is None
    assert [epoch.train_risk for epoch in read_metrics(run.stages[0])] == [None, None]


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_stage_stopped_anywhere_ends_in_the_same_best_point(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*PROPOSITION, *TOO_FAST, "machine.checkpoint_minutes=1000")
    run = tiny_run(tmp_path / "run", *settings)
    train_stage(run, 0, CPU, Reporter())
    stopped = copied(run, tmp_path / "stopped")
    train_stage(run, 1, CPU, Reporter())
    with pytest.raises(Stopped):
        train_stage(stopped, 1, CPU, Reporter(), should_stop=asked_at_step(at, monkeypatch))
    monkeypatch.undo()
    tensors, metadata = load_tensors(stopped.stages[1].checkpoint)
    assert any(name.startswith("best.") for name in tensors)
    assert json.loads(metadata["position"])["best"]
    train_stage(stopped, 1, CPU, Reporter())
    assert bytes_of(stopped, 1) == bytes_of(run, 1)
    assert record_of(stopped, 1).best == record_of(run, 1).best


def asked_at_step(at: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Asks for a stop once so many training steps are taken."""
    taken: list[None] = []
    step = train_step

    def counted(*arguments: Any) -> None:
        step(*arguments)
        taken.append(None)

    monkeypatch.setattr(fit, "train_step", counted)
    return lambda: len(taken) >= at


@pytest.mark.parametrize("lost", ["best.block.conv.weight", "all"])
def test_a_checkpoint_without_all_of_its_best_point_is_refused(
    tmp_path: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run", *PROPOSITION)
    with pytest.raises(Stopped):
        train_stage(run, 0, CPU, Reporter(), should_stop=asked_at_step(1, monkeypatch))
    folder = run.stages[0]
    tensors, metadata = load_tensors(folder.checkpoint)
    gone = [name for name in tensors if name == lost or (lost == "all" and name.startswith("best."))]
    save_tensors(folder.checkpoint, {name: t for name, t in tensors.items() if name not in gone}, metadata)
    with pytest.raises(CorruptDataError, match="do not belong together"):
        load_checkpoint(
            folder, make_learner(run, stage_problem(run, 0), CPU), Reporter(), batch_size=8, epoch_samples=24
        )


NO_NORM = ("network.batch_norm=false", "train.start=identity")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("train.start=identity",), "network.batch_norm is true, and a block that normalises is no identity"),
        ((*NO_NORM, "network.downsample_at=[1, 2]"), "stage 1 samples down .*, and P is no identity"),
        ((*NO_NORM, "stages.1.head.k=1"), "its head is another than that of stage 0"),
        (("network.batch_norm=false", "stages.1.train.start=identity", "stages.0.head.width=8"), "its head is another"),
        ((*NO_NORM, "network.residual=true"), "network.residual is true, and a block that adds its input is none"),
        ((*NO_NORM, "stages.0.compress.keep=0.5"), "filters of stage 0 are cut off"),
    ],
)
def test_identity_is_refused_where_a_block_or_a_head_cannot_be_it(
    tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    found = faults(tmp_path, *settings)
    assert found[0].startswith('stages.1.train.start = "identity": ')
    assert re.search(message, found[0])
    assert 'set stages.1.train.start = "random"' in found[0]


def test_the_best_point_of_a_stage_that_is_compressed_after_it_is_refused(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, "train.keep=best", "stages.1.compress.keep=0.5")
    assert found.startswith('stages.1.train.keep = "best": its filters are cut off after the training')


def test_skip_connections_are_not_compressed(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, "network.residual=true", "compress.keep=0.5")
    assert found.startswith("network.residual: filters of blocks with skip connections are not cut off")


def test_stages_that_sample_down_may_start_at_random_among_others(tmp_path: Path) -> None:
    loaded(tmp_path, *NO_NORM, "network.downsample_at=[1]", "stages.1.train.start=random")
