"""cascade refit-last: the last stage again with another head, beside the stage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from cascade import ensemble
from pipeline import evaluation, fit
from pipeline.device import choose_device
from pipeline.errors import ConfigError, RefusedError, Stopped
from pipeline.evaluation import evaluate
from pipeline.experiments.refit import refit_last
from pipeline.initial import draw_weights
from pipeline.learner import Learner, make_learner
from pipeline.networks import new_block, new_head
from pipeline.progress import Reporter
from pipeline.refits import with_last_head
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from pipeline.verify import verify
from pipeline.weights import load_tensors, module_tensors
from tests.runs import copied, reopened, tiny_run
from tests.trained import files_of

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two stages, not to be changed."""
    run = tiny_run(tmp_path_factory.mktemp("trained") / "run")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    return run


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    return copied(trained, tmp_path / "copy")


def test_a_refit_is_the_last_stage_of_a_config_with_that_head(run: RunFolder) -> None:
    refit_last(run, 6, "cpu", Reporter())
    folder = with_last_head(run, 6).stages[-1]
    assert folder.key == reopened(run.path, "stages.1.head.width=3").stages[-1].key
    assert load_tensors(folder.head)[0]["head.hidden.0.weight"].shape == (6, 8, 3, 3)
    assert load_tensors(folder.block)[0]["block.conv.weight"].shape[0] == 8


def test_block_and_head_start_from_fresh_weights_and_are_trained_together(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: dict[str, Tensor] = {}

    def watched(*arguments: Any, **options: Any) -> Learner:
        learner = make_learner(*arguments, **options)
        begun.update({name: tensor.clone() for name, tensor in learner.tensors().items()})
        return learner

    monkeypatch.setattr(fit, "make_learner", watched)
    refit_last(run, 6, "cpu", Reporter())
    seen = with_last_head(run, 6)
    block, head = new_block(seen, 1), new_head(seen, 1)
    draw_weights(seen.config.seed, 1, block, head)
    ended = load_tensors(seen.stages[1].block)[0] | load_tensors(seen.stages[1].head)[0]
    for name, drawn in module_tensors(block=block, head=head).items():
        assert begun[name].equal(drawn), name
        assert not ended[name].equal(drawn), f"{name} is trained"


def test_the_stage_and_earlier_refits_stay_to_the_byte(run: RunFolder) -> None:
    before = files_of(run.path / "stages")
    refit_last(run, 6, "cpu", Reporter())
    then = files_of(run.path / "stages")
    refit_last(run, 12, "cpu", Reporter())
    after = files_of(run.path / "stages")
    assert before.items() < then.items() < after.items()


def test_a_refit_that_was_stopped_ends_in_the_same_weights(run: RunFolder, trained: RunFolder, tmp_path: Path) -> None:
    asked = iter([False] * 4)
    with pytest.raises(Stopped):
        refit_last(run, 6, "cpu", Reporter(), should_stop=lambda: next(asked, True))
    refit_last(run, 6, "cpu", Reporter())
    whole = copied(trained, tmp_path / "whole")
    refit_last(whole, 6, "cpu", Reporter())
    one, other = (load_tensors(with_last_head(seen, 6).stages[-1].head)[0] for seen in (run, whole))
    assert all(one[name].equal(other[name]) for name in other)


def test_evaluation_has_the_refit_beside_the_stage_and_an_ensemble_with_it(run: RunFolder) -> None:
    before = evaluate(run)
    refit_last(run, 6, "cpu", Reporter())
    after = evaluate(run)
    assert (after.stages, after.ensemble) == (before.stages, before.ensemble)
    (refit,) = after.refits
    record = with_last_head(run, 6).stages[-1].record
    assert record is not None
    assert (refit.head_width, refit.scores.top1) == (6, record.test_accuracy)
    assert refit.ensemble == evaluate(with_last_head(run, 6)).ensemble
    again = evaluate(run, recompute_on=CPU)
    assert again.refits[0].scores.top1 == pytest.approx(refit.scores.top1, abs=11), "a test image or none"


def test_the_ensemble_with_a_refit_is_of_its_outputs_and_those_of_the_stages_before(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    refit_last(run, 6, "cpu", Reporter())
    together: list[list[Tensor]] = []

    def watched(kept: list[Tensor], **options: Any) -> Tensor:
        together.append(kept)
        return ensemble(kept, **options)

    monkeypatch.setattr(evaluation, "ensemble", watched)
    evaluate(run)
    first, last = run.stages
    stages = [load_tensors(one.test_logits)[0]["logits"] for one in (first, last, with_last_head(run, 6).stages[1])]
    for kept, expected in zip(together, ([0, 1], [0, 2]), strict=True):
        assert len(kept) == 2
        assert all(logits.equal(stages[one]) for logits, one in zip(kept, expected, strict=True))


def test_verify_reads_the_files_of_a_refit(run: RunFolder) -> None:
    refit_last(run, 6, "cpu", Reporter())
    head = with_last_head(run, 6).stages[-1].head
    data = bytearray(head.read_bytes())
    data[-1] ^= 1
    head.write_bytes(bytes(data))
    damaged = [found.file for row in verify(run, Reporter()) for found in row.damage]
    assert damaged == [str(head.relative_to(run.path))]


def test_the_width_of_the_stage_itself_is_refused(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"has 8 channels itself\nnext: another --head-width, or cascade train-stage"):
        refit_last(run, 8, "cpu", Reporter())


def test_blocks_that_are_missing_are_asked_for(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    with pytest.raises(RefusedError, match=r"block 0 is needed first.*\nnext: cascade train-stage --j 0"):
        refit_last(run, 6, "cpu", Reporter())


def test_one_of_a_network_of_one_stage_waits_for_the_stage(tmp_path: Path, cascade: Callable[..., Any]) -> None:
    run = tiny_run(tmp_path / "run", "network.stages=1", "network.downsample_at=[]")
    before = files_of(run.path)
    code, _, err = cascade("refit-last", "--head-width", 6, "--run", run.path, "--device", "cpu")
    assert code == 3
    assert "there is no trained stage to compare a refit with yet" in err
    assert f"next: cascade run --run {run.path}" in err
    assert files_of(run.path) == before, "nothing was trained"


def test_the_command_shows_what_status_and_evaluate_show(run: RunFolder, cascade: Callable[..., Any]) -> None:
    code, out, _ = cascade("refit-last", "--head-width", 6, "--run", run.path, "--device", "cpu")
    assert code == 0
    assert "last stage, head 6 " in out
    assert "ensemble, last head 6 " in out
    before = files_of(run.path)
    code, out, _ = cascade("refit-last", "--head-width", 6, "--run", run.path, "--device", "cpu", "--json")
    assert [one["head_width"] for one in json.loads(out)["refits"]] == [6]
    assert files_of(run.path) == before, "what is done is only scored"
    code, out, _ = cascade("status", "--run", run.path)
    assert "last stage, head 6  done" in out
    assert "also in" not in out
    assert "branch" not in cascade("gc", "--run", run.path)[1]
