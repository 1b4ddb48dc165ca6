"""The anchor rule: which x_j are stored never changes a result (docs/design.md)."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.device import choose_device
from pipeline.errors import CorruptDataError, RefusedError
from pipeline.feed import Feed
from pipeline.networks import load_quantiser
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.status import status
from pipeline.training import train_stage
from pipeline.weights import load_tensors
from tests.runs import digits_run, reopened

CPU = choose_device("cpu")
CANVAS = ("augment.policy=canvas", "augment.padding=1", "augment.flip=true")


def trained(run: RunFolder, first: int = 0) -> RunFolder:
    for j in range(first, len(run.stages)):
        train_stage(run, j, CPU, Reporter())
    return run


def trained_with_other_stores(folder: Path, *settings: str) -> list[RunFolder]:
    """Three runs that differ in what they keep: everything, nothing, x_1. Stage 0, which reads images, is shared."""
    start = digits_run(folder / "start", *settings, "cache.keep=none")
    train_stage(start, 0, CPU, Reporter())
    runs = []
    for name, keep in {"cached": "all", "replayed": "none", "middle": "[1]"}.items():
        shutil.copytree(start.path, folder / name)
        runs.append(trained(reopened(folder / name, f"cache.keep={keep}")))
    assert [run.anchor(2) for run in runs] == [start.config.augment.last_anchor(2), 0, 1]
    return runs


def weights(run: RunFolder, j: int) -> dict[str, torch.Tensor]:
    folder = run.stages[j]
    return {**load_tensors(folder.block)[0], **load_tensors(folder.head)[0], **load_tensors(folder.test_logits)[0]}


def assert_bit_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize(("precision", "epochs"), [("float32", 2), ("bfloat16", 1)])
@pytest.mark.parametrize("encoding", ["float32", "float16", "uint8", "uint4"])
def test_training_from_cached_and_from_recomputed_input_ends_in_bit_equal_weights(
    tmp_path: Path, precision: str, epochs: int, encoding: str
) -> None:
    settings = (f"network.precision={precision}", f"train.epochs={epochs}", f"store.encoding={encoding}")
    cached, replayed, middle = trained_with_other_stores(tmp_path, *settings)
    for j in range(1, 3):
        assert_bit_equal(weights(cached, j), weights(replayed, j))
        assert_bit_equal(weights(cached, j), weights(middle, j))


@pytest.mark.parametrize(
    ("precision", "encoding", "settings"),
    [
        ("float32", "uint4", ()),
        ("bfloat16", "float16", ()),
        ("float32", "uint8", ("augment.phases=2",)),
        ("float32", "uint4", ("augment.cut_at=1",)),
        ("bfloat16", "float16", ("augment.cut_at=1", "augment.phases=4")),
    ],
)
def test_windows_of_stored_and_of_replayed_canvases_train_bit_equal_weights(
    tmp_path: Path, precision: str, encoding: str, settings: tuple[str, ...]
) -> None:
    settings = (*CANVAS, f"network.precision={precision}", "train.epochs=1", f"store.encoding={encoding}", *settings)
    cached, replayed, middle = trained_with_other_stores(tmp_path, *settings)
    for j in range(1, 3):
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
    shutil.rmtree(run.store(1, "validation"))
    assert run.anchor(2) == 0, "a store that lacks a split is no anchor"


@pytest.mark.parametrize(
    "settings",
    [
        ("store.encoding=uint8",),
        (*CANVAS, "store.encoding=uint4", "augment.crop=6"),
        (*CANVAS, "augment.crop=6", "augment.phases=2"),
    ],
    ids=["views, uint8", "canvas, uint4", "canvas of two phases"],
)
def test_batches_from_the_store_equal_batches_replayed_from_the_images(
    tmp_path: Path, settings: tuple[str, ...]
) -> None:
    run = digits_run(tmp_path / "run", *settings, "train.epochs=1")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    stored, replayed = Feed(run, 2, CPU), Feed(run, 2, CPU, anchor=0)
    for epoch in range(3):
        for (x, y), (x_again, y_again) in zip(stored.training(epoch), replayed.training(epoch), strict=True):
            assert torch.equal(x, x_again)
            assert torch.equal(y, y_again)
    for split, view in (("train", 0), ("train", 1), ("validation", None), ("test", None), ("test", 0)):
        feeds = stored.sequential(split, view=view), replayed.sequential(split, view=view)
        for (x, y), (x_again, y_again) in zip(*feeds, strict=True):
            assert torch.equal(x, x_again)
            assert torch.equal(y, y_again)


def test_stages_after_the_first_see_fresh_draws_under_recompute_and_repeat_views_otherwise(tmp_path: Path) -> None:
    def epoch_bytes(run: RunFolder, epoch: int) -> set[bytes]:
        return {sample.float().numpy().tobytes() for x, _ in Feed(run, 1, CPU).training(epoch) for sample in x}

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
    run = digits_run(tmp_path / "run", "store.encoding=uint8", "augment.views=2")
    for change in ("augment.views=2", "augment.views=3", "augment.policy=none", "augment.policy=canvas"):
        changed = reopened(run.path, change, f"cache.keep={'all' if change == 'augment.views=2' else 'none'}")
        changed.stages[0].scale.unlink(missing_ok=True)
        train_stage(changed, 0, CPU, Reporter())
        scales.append(load_quantiser(changed, 0).scale)
    assert len(list(run.path.glob("stages/*"))) == 1
    assert all(torch.equal(scales[0], scale) for scale in scales)


def test_another_encoding_of_x_1_leaves_stage_0_as_it_is_and_only_takes_the_scale_and_writes(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    changed = reopened(run.path, "stages.0.store.encoding=uint4")
    assert [changed.stages[j].path == run.stages[j].path for j in range(3)] == [True, False, False]
    before, *after = status(changed)
    assert (before.state, before.reason) == (
        "trained",
        f"x_1 not written as uint4: cascade train-stage --j 0 --run {run.path}",
    )
    assert (after[0].state, after[0].reason) == ("stale", "store.encoding of x_1 float16 -> uint4")

    kept = {path: path.stat().st_mtime_ns for path in run.stages[0].path.rglob("*") if path.is_file()}
    assert train_stage(changed, 0, CPU, Reporter())
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "weights, metrics, record and the other store"
    for seen in (run, changed):
        assert seen.anchor(1) == 1
        assert seen.open_store(1, "train").encoding == seen.config.for_stage(0).store.encoding
        assert status(seen)[0].state == "done"
        assert not train_stage(seen, 0, CPU, Reporter())
    assert train_stage(changed, 1, CPU, Reporter())
    assert [stage.state for stage in status(reopened(run.path))] == ["done", "done", "todo"]


def test_another_encoding_of_a_store_that_is_not_there_yet_is_refused_until_its_scale_is_taken(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run", "cache.keep=none")
    train_stage(run, 0, CPU, Reporter())
    changed = reopened(run.path, "stages.0.store.encoding=uint8")
    with pytest.raises(
        RefusedError, match=r"the scale of x_1 as uint8 is not known yet\nnext: cascade train-stage --j 0"
    ):
        train_stage(changed, 1, CPU, Reporter())
    assert not changed.stages[1].path.exists()
    assert train_stage(changed, 0, CPU, Reporter())
    assert train_stage(changed, 1, CPU, Reporter())


def test_a_damaged_scale_is_refused_and_taken_again_once_it_is_deleted(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run", "store.encoding=uint8", "cache.keep=none", "train.epochs=1")
    train_stage(run, 0, CPU, Reporter())
    file, whole = run.stages[0].scale, run.stages[0].scale.read_bytes()
    scales = [[0.5], [0, *[1] * 7], [-1, *[1] * 7], [1e300, *[1] * 7], [1] * 9, None]
    wrong: list[dict[str, Any]] = [{"scale": scale} for scale in scales] + [{"encoding": "uint4"}]
    contents = [b"", whole[:-20], b"\xff\xfe", *(json.dumps(json.loads(whole) | one).encode() for one in wrong)]
    for content in contents:
        file.write_bytes(content)
        with pytest.raises(CorruptDataError, match=rf"{file} is damaged: .*\nnext: delete it and cascade train-stage"):
            train_stage(run, 1, CPU, Reporter())
    file.unlink()
    assert status(run)[0].state == "trained"
    assert train_stage(run, 0, CPU, Reporter())
    assert file.read_bytes() == whole


def test_a_store_that_another_stage_wrote_is_refused(tmp_path: Path) -> None:
    run, other = digits_run(tmp_path / "run"), digits_run(tmp_path / "run2", "train.lr=0.05")
    for each in (run, other):
        train_stage(each, 0, CPU, Reporter())
    shutil.rmtree(run.stages[0].path / "x_1")
    shutil.copytree(other.stages[0].path / "x_1", run.stages[0].path / "x_1")
    with pytest.raises(
        RefusedError, match="is not x_1 train of the stage whose folder it is in: another key\nnext: delete it"
    ):
        train_stage(run, 1, CPU, Reporter())
