"""The anchor rule: which x_j are stored never changes a result (docs/design.md)."""

import shutil
from pathlib import Path

import pytest
import torch

from pipeline.device import choose_device
from pipeline.errors import RefusedError
from pipeline.feed import Feed
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from pipeline.weights import load_tensors
from tests.runs import digits_run, reopened

CPU = choose_device("cpu")


def trained(run: RunFolder) -> RunFolder:
    for j in range(len(run.stages)):
        train_stage(run, j, CPU, Reporter())
    return run


def weights(run: RunFolder, j: int) -> dict[str, torch.Tensor]:
    folder = run.stages[j]
    return {**load_tensors(folder.block)[0], **load_tensors(folder.head)[0], **load_tensors(folder.test_logits)[0]}


def assert_bit_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("encoding", ["float32", "float16", "uint8"])
def test_training_from_cached_and_from_recomputed_input_ends_in_bit_equal_weights(
    tmp_path: Path, precision: str, encoding: str
) -> None:
    settings = [f'network.precision="{precision}"', f'store.encoding="{encoding}"']
    cached = trained(digits_run(tmp_path / "cached", *settings))
    replayed = trained(digits_run(tmp_path / "replayed", *settings, 'cache.keep="none"'))
    middle = trained(digits_run(tmp_path / "middle", *settings, "cache.keep=[1]"))
    assert [run.anchor(2) for run in (cached, replayed, middle)] == [2, 0, 1]
    for j in range(3):
        assert_bit_equal(weights(cached, j), weights(replayed, j))
        assert_bit_equal(weights(cached, j), weights(middle, j))


@pytest.mark.parametrize("kind", ["none", "recompute"])
def test_other_policies_give_the_same_result_whatever_is_kept(tmp_path: Path, kind: str) -> None:
    cached = trained(digits_run(tmp_path / "cached", f'augment.policy="{kind}"'))
    replayed = trained(digits_run(tmp_path / "replayed", f'augment.policy="{kind}"', 'cache.keep="none"'))
    for j in range(3):
        assert_bit_equal(weights(cached, j), weights(replayed, j))


def test_a_deleted_store_is_replayed_from_the_nearest_one_that_is_left(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run")
    train_stage(run, 0, CPU, Reporter())
    train_stage(run, 1, CPU, Reporter())
    assert run.anchor(2) == 2
    shutil.rmtree(run.stages[1].path / "x_2")
    assert run.anchor(2) == 1
    shutil.rmtree(run.stages[0].path / "x_1" / "validation")
    assert run.anchor(2) == 0, "a store that lacks a split is no anchor"


def test_batches_from_the_store_equal_batches_replayed_from_the_images(tmp_path: Path) -> None:
    run = trained(digits_run(tmp_path / "run", 'store.encoding="uint8"'))
    stored, replayed = Feed(run, 2, CPU), Feed(run, 2, CPU, anchor=0)
    for epoch in range(3):
        for (x, y), (x_again, y_again) in zip(stored.training(epoch), replayed.training(epoch), strict=True):
            assert torch.equal(x, x_again)
            assert torch.equal(y, y_again)
    for split in run.splits:
        for (x, y), (x_again, y_again) in zip(stored.sequential(split), replayed.sequential(split), strict=True):
            assert torch.equal(x, x_again)
            assert torch.equal(y, y_again)


def test_stages_after_the_first_see_fresh_draws_under_recompute_and_repeat_views_otherwise(tmp_path: Path) -> None:
    def epoch_bytes(run: RunFolder, epoch: int) -> set[bytes]:
        return {sample.numpy().tobytes() for x, _ in Feed(run, 1, CPU).training(epoch) for sample in x}

    views = digits_run(tmp_path / "views", "augment.views=2")
    recompute = digits_run(tmp_path / "recompute", 'augment.policy="recompute"')
    for run in (views, recompute):
        train_stage(run, 0, CPU, Reporter())
    assert len(epoch_bytes(views, 0) & epoch_bytes(views, 2)) > 1000
    assert len(epoch_bytes(recompute, 0) & epoch_bytes(recompute, 2)) < 300


def test_the_run_folder_can_be_moved(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "here")
    train_stage(run, 0, CPU, Reporter())
    (tmp_path / "here").rename(tmp_path / "there")
    moved = reopened(tmp_path / "there")
    assert moved.anchor(1) == 1
    train_stage(moved, 1, CPU, Reporter())
    assert moved.stages[1].record is not None


def test_a_last_run_of_a_single_sample_is_stored_as_it_is_replayed(tmp_path: Path) -> None:
    settings = ("order.run=59", "order.window=472", 'network.precision="float32"', 'store.encoding="float32"')
    run = digits_run(tmp_path / "run", *settings)
    assert run.info.samples["train"] % 59 == 1
    train_stage(run, 0, CPU, Reporter())
    for view in range(2):
        pairs = zip(
            Feed(run, 1, CPU).sequential("train", view=view),
            Feed(run, 1, CPU, anchor=0).sequential("train", view=view),
            strict=True,
        )
        for (x, _), (x_again, _) in pairs:
            assert torch.equal(x, x_again)


def test_the_scale_of_an_encoding_does_not_depend_on_the_policy_or_on_what_is_kept(tmp_path: Path) -> None:
    scales = []
    for number, policy in enumerate(("augment.views=2", "augment.views=3", 'augment.policy="none"')):
        run = digits_run(tmp_path / str(number), 'store.encoding="uint8"', 'cache.keep="none"', policy)
        train_stage(run, 0, CPU, Reporter())
        scales.append(load_tensors(run.stages[0].block)[0]["quantiser.scale"])
    assert torch.equal(scales[0], scales[1])
    assert torch.equal(scales[0], scales[2])


def test_a_store_that_another_stage_wrote_is_refused(tmp_path: Path) -> None:
    run, other = digits_run(tmp_path / "run"), digits_run(tmp_path / "run2", "train.lr=0.05")
    for each in (run, other):
        train_stage(each, 0, CPU, Reporter())
    shutil.rmtree(run.stages[0].path / "x_1")
    shutil.copytree(other.stages[0].path / "x_1", run.stages[0].path / "x_1")
    with pytest.raises(RefusedError, match="was not written by the stage whose folder it is in\nnext: delete it"):
        train_stage(run, 1, CPU, Reporter())
