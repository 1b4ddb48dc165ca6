"""What a stage sees under the policy `canvas`: windows of features of the whole padded image and its mirror image."""

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from numpy.typing import NDArray

from cache import Store, decode, encode, in_batches
from pipeline.augmentation import canvas_draws
from pipeline.device import choose_device, place
from pipeline.evaluation import evaluate
from pipeline.feed import Feed
from pipeline.networks import load_block, load_network, load_prefix, load_quantiser
from pipeline.order import training_windows
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.status import status
from pipeline.training import train_stage
from pipeline.weights import load_tensors
from tests.runs import digits_run, reopened

CPU = choose_device("cpu")
CANVAS = ("augment.policy=canvas", "augment.crop=6", "augment.padding=1", "augment.flip=true")
"""Windows of 6x6 out of 10x10; after the down-sampling of stage 1, of 3x3 out of 5x5."""
ENCODINGS = ["float32", "float16", "uint8", "uint4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose first two stages are trained, with x_1 and x_2."""
    path = tmp_path_factory.mktemp("canvas") / "run"
    run = digits_run(path, *CANVAS, "network.precision=float32", "train.epochs=1")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    return path


@pytest.fixture(scope="module")
def cut(folder: Path) -> RunFolder:
    """The same with a third stage, whose windows are cut at x_1."""
    run = reopened(folder, "augment.cut_at=1")
    train_stage(run, 2, CPU, Reporter())
    return run


def encoded(folder: Path, encoding: str) -> RunFolder:
    """The same with x_1 in this encoding."""
    run = reopened(folder, f"stages.0.store.encoding={encoding}")
    train_stage(run, 0, CPU, Reporter())
    return run


def stored_numbers(store: Store) -> NDArray[Any]:
    """All of a store, (view, sample, *stored shape), as zarr-python reads it."""
    return np.asarray(zarr.open_array(store.path / "x", mode="r"))


def activations(store: Store) -> NDArray[np.float32]:
    return decode(stored_numbers(store), store.encoding, store.scale, store.sample_shape[-1])


Order = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def order_of(run: RunFolder, epoch: int, stage: int = 1) -> Order:
    """(rows, views) of the batches of a stage."""
    order, seed = run.config.order, run.config.seed
    windows = training_windows(
        run.info.samples["train"], run=order.run, window=order.window, views=2, seed=seed, stage=stage, epoch=epoch
    )
    return list(in_batches(windows, run.config.train.batch_size))


def whole_eights(order: Order) -> Order:
    """What is trained on of it: of a last, smaller batch as many eights as there are."""
    cut = [(rows[: len(rows) // 8 * 8], views[: len(rows) // 8 * 8]) for rows, views in order]
    return [(rows, views) for rows, views in cut if len(rows)]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_training_batches_are_slices_of_the_stored_canvases_decoded(folder: Path, encoding: str) -> None:
    run = encoded(folder, encoding)
    feed, store = Feed(run, 1, CPU), run.open_store(1, "train")
    assert (feed.source, store.encoding, store.sample_shape) == ("x_1 stored", encoding, (8, 10, 10))
    canvases = activations(store)
    for epoch in range(2):
        order = whole_eights(order_of(run, epoch))
        for (rows, views), (x, y) in zip(order, feed.training(epoch), strict=True):
            windows = canvas_draws(10, 6, store.sample_id[rows], seed=run.config.seed, stage=1, epoch=epoch)
            expected = [
                canvases[view, row, :, top : top + 6, left : left + 6]
                for row, view, top, left in zip(rows, views, windows.top, windows.left, strict=True)
            ]
            np.testing.assert_array_equal(x.numpy(), np.stack(expected))
            np.testing.assert_array_equal(y.numpy(), store.y[rows])
            assert x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_stored_canvas_is_the_block_on_the_padded_image_and_in_view_1_on_its_mirror_image(
    folder: Path, encoding: str
) -> None:
    run = encoded(folder, encoding)
    images, store = stored_numbers(run.open_store(0, "train")), run.open_store(1, "train")
    padded = np.pad(images[0, : run.config.order.run], ((0, 0), (0, 0), (1, 1), (1, 1)))
    block, scale = load_block(run, 0), load_quantiser(run, 0).scale.numpy()
    place(block, CPU)
    np.testing.assert_array_equal(scale, store.scale)
    assert store.views == 2
    for view, canvas in enumerate((padded, padded[..., ::-1])):
        x_0 = (torch.from_numpy(canvas.copy()).float() / 255 - run.info.mean[0]) / run.info.std[0]
        with torch.no_grad():
            x_1 = block(x_0.contiguous(memory_format=torch.channels_last)).numpy()
        np.testing.assert_array_equal(stored_numbers(store)[view, : len(x_1)], encode(x_1, encoding, scale))


def test_a_stored_canvas_of_a_later_phase_is_the_block_on_the_padded_image_shifted(folder: Path) -> None:
    run = reopened(folder, "augment.phases=2")
    train_stage(run, 0, CPU, Reporter())
    images, store = stored_numbers(run.open_store(0, "train")), run.open_store(1, "train")
    shifted = np.pad(images[0, : run.config.order.run], ((0, 0), (0, 0), (0, 2), (0, 2)))
    block, scale = load_block(run, 0), load_quantiser(run, 0).scale.numpy()
    place(block, CPU)
    assert store.views == 4
    for view, canvas in ((2, shifted), (3, shifted[..., ::-1])):
        x_0 = (torch.from_numpy(canvas.copy()).float() / 255 - run.info.mean[0]) / run.info.std[0]
        with torch.no_grad():
            x_1 = block(x_0.contiguous(memory_format=torch.channels_last)).numpy()
        np.testing.assert_array_equal(stored_numbers(store)[view, : len(x_1)], encode(x_1, store.encoding, scale))


def test_the_mirror_image_is_seen_as_often_as_the_image_over_two_epochs(folder: Path) -> None:
    run = reopened(folder)
    seen = [
        pair for epoch in range(2) for rows, views in order_of(run, epoch) for pair in zip(rows, views, strict=True)
    ]
    by_row = groupby(sorted((int(row), int(view)) for row, view in seen), key=lambda pair: pair[0])
    assert [[view for _, view in pairs] for _, pairs in by_row] == [[0, 1]] * run.info.samples["train"]


def test_every_split_is_stored_as_canvases_and_what_is_not_trained_on_in_one_view(folder: Path) -> None:
    run = reopened(folder)
    for split in run.splits:
        assert run.open_store(1, split).sample_shape == run.output_shape(0) == (8, 10, 10)
        assert run.open_store(2, split).sample_shape == run.output_shape(1) == (16, 5, 5)
        assert run.open_store(1, split).views == (2 if split == "train" else 1)


def test_policies_that_share_a_stage_do_not_take_canvases_for_windows(folder: Path) -> None:
    canvas, views = reopened(folder), reopened(folder, "augment.policy=views")
    assert canvas.stages[0].path == views.stages[0].path
    assert not views.is_stored(1)
    train_stage(views, 0, CPU, Reporter())
    for split in views.splits:
        assert views.open_store(1, split).sample_shape == views.output_shape(0) == (8, 6, 6)
        assert canvas.open_store(1, split).sample_shape == (8, 10, 10)


def test_stages_are_tested_on_the_centre_of_the_stored_canvases(folder: Path) -> None:
    run = reopened(folder)
    for j, window in ((1, slice(2, 8)), (2, slice(1, 4))):
        for split in ("validation", "test"):
            x = torch.cat([x for x, _ in Feed(run, j, CPU).sequential(split)])
            expected = activations(run.open_store(j, split))[0, :, :, window, window]
            np.testing.assert_array_equal(x.numpy(), expected)


def test_windows_past_a_down_sampling_move_by_whole_pixels_of_the_features(folder: Path) -> None:
    run = reopened(folder)
    stored, replayed = Feed(run, 2, CPU), Feed(run, 2, CPU, anchor=1)
    assert (stored.source, replayed.source) == ("x_2 stored", "x_1 + block 1")
    for (x, _), (x_again, _) in zip(stored.training(0), replayed.training(0), strict=True):
        assert x.shape[1:] == (16, 3, 3)
        assert torch.equal(x, x_again)


def test_windows_cut_at_x_1_are_taken_through_the_blocks_after_it(cut: RunFolder) -> None:
    feed, store, prefix = Feed(cut, 2, CPU), cut.open_store(1, "train"), load_prefix(cut, 1, 2)
    place(prefix, CPU)
    assert (feed.source, cut.is_stored(2)) == ("x_1 + block 1", True), "x_2 of the run that cuts there is none of it"
    canvases = activations(store)
    order = whole_eights(order_of(cut, 1, stage=2))
    for (rows, views), (x, _) in zip(order, feed.training(1), strict=True):
        windows = canvas_draws(10, 6, store.sample_id[rows], seed=cut.config.seed, stage=2, epoch=1)
        x_1 = [
            canvases[view, row, :, top : top + 6, left : left + 6]
            for row, view, top, left in zip(rows, views, windows.top, windows.left, strict=True)
        ]
        x_2 = prefix(torch.from_numpy(np.stack(x_1)).contiguous(memory_format=torch.channels_last))
        assert x.shape[1:] == (16, 3, 3)
        assert torch.equal(x, x_2)


def test_a_stage_after_where_windows_are_cut_is_tested_as_it_was_trained_and_so_is_its_network(cut: RunFolder) -> None:
    assert evaluate(cut, recompute_on=CPU) == evaluate(cut)
    centres = torch.from_numpy(activations(cut.open_store(1, "test"))[0, :, :, 2:8, 2:8])
    x_2 = torch.cat([x for x, _ in Feed(cut, 2, CPU).sequential("test")])
    torch.testing.assert_close(x_2, load_prefix(cut, 1, 2)(centres), rtol=1e-3, atol=1e-3)
    images = torch.from_numpy(stored_numbers(cut.open_store(0, "test"))[0])
    kept = load_tensors(cut.stages[2].test_logits)[0]["logits"]
    with torch.no_grad():
        torch.testing.assert_close(load_network(cut, 2)(images / 255), kept, rtol=1e-4, atol=1e-2)
    assert [stage.reason.rpartition(" of ")[2] for stage in status(cut)[1:]] == ["frozen canvases", "x_1"]


def test_the_first_stage_is_the_one_of_other_policies(folder: Path) -> None:
    run, other = reopened(folder), reopened(folder, "augment.policy=recompute")
    assert run.stages[0].path == other.stages[0].path
    for (x, _), (x_again, _) in zip(Feed(run, 0, CPU).training(1), Feed(other, 0, CPU).training(1), strict=True):
        assert torch.equal(x, x_again)
    for (x, _), (x_again, _) in zip(
        Feed(run, 0, CPU).sequential("test"), Feed(other, 0, CPU).sequential("test"), strict=True
    ):
        assert torch.equal(x, x_again)


def test_the_network_of_a_stage_takes_whole_images_to_the_outputs_that_it_kept(folder: Path) -> None:
    run = reopened(folder)
    images = torch.from_numpy(stored_numbers(run.open_store(0, "test"))[0])
    kept = load_tensors(run.stages[1].test_logits)[0]["logits"]
    with torch.no_grad():
        torch.testing.assert_close(load_network(run, 1)(images / 255), kept, rtol=1e-4, atol=1e-3)


def test_evaluating_from_the_images_gives_what_the_stages_kept(folder: Path) -> None:
    run = reopened(folder)
    assert evaluate(run, recompute_on=CPU) == evaluate(run)
