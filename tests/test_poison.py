"""Numbers that are none: found before anything takes them in, with the samples that they came with."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import zarr

from cache import Store, StoreWriter
from pipeline import fit
from pipeline.device import choose_device
from pipeline.errors import CascadeError
from pipeline.feed import Feed, shortened
from pipeline.finite import FaultRecord
from pipeline.learner import Learner
from pipeline.networks import EncodingRecord
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.sealed import unseal, write_sealed
from pipeline.step import train_step
from pipeline.training import train_stage
from pipeline.weights import load_tensors, save_tensors
from tests.runs import bytes_of, copied, tiny_run

CPU = choose_device("cpu")


def fault_of(run: RunFolder, j: int) -> FaultRecord:
    return unseal(run.stages[j].fault.read_bytes(), FaultRecord)


def poisoning(step: int, poison: Callable[[Learner, torch.Tensor], torch.Tensor]) -> Callable[..., None]:
    """A training step that does something to the learner or the batch at the given step."""
    steps = 0

    def poisoned(learner: Learner, parts: Iterable[tuple[torch.Tensor, torch.Tensor]], *others: Any) -> None:
        nonlocal steps
        is_now, steps = steps == step, steps + 1
        train_step(learner, ((poison(learner, x) if is_now else x, y) for x, y in parts), *others)

    return poisoned


@pytest.mark.parametrize("minutes", [0, 1000])
@pytest.mark.parametrize("step", range(6))
def test_a_poisoned_batch_is_named_and_nothing_of_it_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, minutes: int
) -> None:
    run = tiny_run(tmp_path / "run", f"machine.checkpoint_minutes={minutes}")
    epoch, within = divmod(step, 3)
    ids = Feed(run, 0, CPU).batch_ids(epoch, within)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "train_step", poisoning(step, lambda _, x: x * torch.nan))
        with pytest.raises(CascadeError) as caught:
            train_stage(run, 0, CPU, Reporter())
    assert f"stage 0, epoch {epoch + 1}, step {within + 1}: the loss is nan" in str(caught.value)
    assert f"first with sample ids {shortened(ids)}" in str(caught.value)
    assert str(run.stages[0].fault) in str(caught.value)
    fault = fault_of(run, 0)
    assert (fault.j, fault.epoch, fault.step, fault.sample_ids) == (0, epoch, within, ids)
    assert "block.conv.weight" in fault.not_finite
    kept = step if minutes == 0 else 3 * epoch
    assert run.stages[0].checkpoint.exists() == (kept > 0)
    if kept:
        assert all(tensor.isfinite().all() for tensor in load_tensors(run.stages[0].checkpoint)[0].values())
    whole = copied(run, tmp_path / "whole")
    for other in (run, whole):
        train_stage(other, 0, CPU, Reporter())
    assert bytes_of(run, 0) == bytes_of(whole, 0)
    assert not run.stages[0].fault.exists(), "the stage got over it"


def test_ids_of_a_batch_are_of_the_samples_in_it(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    store = Store(run.store(0, "train"))
    for epoch in range(2):
        for step, (_, y) in enumerate(Feed(run, 0, CPU).training(epoch)):
            ids = Feed(run, 0, CPU).batch_ids(epoch, step)
            assert y.tolist() == [store.y[list(store.sample_id).index(i)] for i in ids]


@pytest.mark.parametrize("what", ["block.norm.running_var", "head.linear.weight"])
def test_a_poisoned_weight_or_buffer_is_not_kept_though_every_loss_was_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def poison(learner: Learner, x: torch.Tensor) -> torch.Tensor:
        if what == "head.linear.weight":  # by its momentum, as an overflowing gradient would
            learner.optimiser.momentum[-2].fill_(torch.nan)
        else:
            learner.block.get_buffer("norm.running_var").fill_(torch.nan)
        return x

    run = tiny_run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(fit, "train_step", poisoning(2, poison))
        with pytest.raises(
            CascadeError, match=r"epoch 1: the weights are no longer finite \(.*nothing since"
        ) as caught:
            train_stage(run, 0, CPU, Reporter())
    assert what in str(caught.value)
    assert not run.stages[0].checkpoint.exists()
    fault = fault_of(run, 0)
    assert (fault.epoch, fault.step, fault.sample_ids) == (0, None, [])
    assert what in fault.not_finite


def with_stored_nan(run: RunFolder, monkeypatch: pytest.MonkeyPatch, *, split: str, view: int, row: int) -> None:
    """Train stage 0, with one number of one stored x_1 that is none, in a chunk whose checksum is right."""
    write = StoreWriter.write

    def poisoned(self: StoreWriter, at: int, first: int, x: Any) -> None:
        if f".{split}" in self.path.name and at == view and first <= row < first + len(x):
            x = np.array(x)
            x[row - first, 0, 0, 0] = np.nan
        write(self, at, first, x)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write", poisoned)
        train_stage(run, 0, CPU, Reporter())


@pytest.mark.parametrize("encoding", ["float16", "float32"])
def test_a_number_that_is_none_in_a_sound_chunk_of_training_samples_is_found_with_its_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    run = tiny_run(tmp_path / "run", f"store.encoding={encoding}", "augment.views=1")
    with_stored_nan(run, monkeypatch, split="train", view=0, row=11)
    with pytest.raises(CascadeError, match=r"stage 1, epoch 1, step . *: the loss is nan"):
        train_stage(run, 1, CPU, Reporter())
    assert int(run.open_store(1, "train").sample_id[11]) in fault_of(run, 1).sample_ids
    assert not run.stages[1].checkpoint.exists()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_number_that_is_none_in_what_a_stage_is_tested_on_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    run = tiny_run(tmp_path / "run", "store.encoding=float32")
    with_stored_nan(run, monkeypatch, split=split, view=0, row=2)
    store = run.open_store(1, split)
    with pytest.raises(CascadeError, match=rf"x_1 of {split} samples is not finite, first in row 0 to \d") as caught:
        train_stage(run, 1, CPU, Reporter())
    assert f"of {store.path} (sample ids {int(store.sample_id[0])}" in str(caught.value)
    assert f"\nnext: delete {store.path} and cascade train-stage --j 0" in str(caught.value)
    assert run.stages[1].record is None


def test_a_number_that_is_none_is_not_written_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(tmp_path / "run", "network.stages=3", "store.encoding=float32", "train.epochs=1", "augment.views=4")
    with_stored_nan(run, monkeypatch, split="train", view=2, row=3)
    windows = Feed(run, 1, CPU)._training_windows(0)
    if any(r.view == 2 and r.first == 0 for window in windows for r in window.runs):
        pytest.fail("the poisoned view is trained on; take another")
    with pytest.raises(CascadeError, match=r"x_1 of train samples is not finite, first in row 0 to 7 of view 2"):
        train_stage(run, 1, CPU, Reporter())
    assert run.stages[1].record is not None
    assert not run.is_stored(2)
    shutil.rmtree(run.store(1, "train"))
    train_stage(run, 0, CPU, Reporter(), output_asked_for=True)
    train_stage(run, 1, CPU, Reporter())
    assert np.isfinite(np.asarray(zarr.open_array(run.store(2, "train") / "x", mode="r"))).all(), "nor journaled"


def poison_block(run: RunFolder, j: int) -> None:
    """Put a weight that is no number into a trained block, as if the stage had ended so."""
    folder = run.stages[j]
    tensors, metadata = load_tensors(folder.block)
    tensors["block.conv.weight"][0, 0, 0, 0] = torch.nan
    content, record = save_tensors(folder.block, tensors, metadata), folder.record
    assert record is not None
    write_sealed(folder.record_path, msgspec.structs.replace(record, content={**record.content, "block": content}))
    scale = unseal(folder.scale.read_bytes(), EncodingRecord)
    write_sealed(folder.scale, msgspec.structs.replace(scale, block=content))


@pytest.mark.parametrize("policy", ["views", "canvas"])
@pytest.mark.parametrize("poisoned", [0, 1])
@pytest.mark.parametrize("keep", ["none", "[1]"])
def test_a_block_that_makes_numbers_that_are_none_is_named_and_not_the_store_that_they_come_from(
    tmp_path: Path, keep: str, poisoned: int, policy: str
) -> None:
    canvas = ("augment.policy=canvas", "augment.padding=1") if policy == "canvas" else ()
    run = tiny_run(tmp_path / "run", "network.stages=3", "train.epochs=1", f"cache.keep={keep}", *canvas)
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    poison_block(run, poisoned)
    if keep == "[1]" and poisoned == 0:
        list(Feed(run, 2, CPU).sequential("test"))  # x_1 was stored before
        return
    for split, view in (("test", None), ("test", 0), ("train", 1)):
        with pytest.raises(CascadeError) as caught:
            list(Feed(run, 2, CPU).sequential(split, view=view))
        message, folder = str(caught.value), run.stages[poisoned].path
        assert message.startswith(
            f"stage 2: x_2 of {split} samples is not finite, made so by block {poisoned}, first in"
        )
        again = f"cascade train-stage --j {poisoned} --run {run.path}"
        assert f"\nnext: delete {folder} and {again}, with a lower stages.{poisoned}.train.lr" in message


def test_pixels_are_numbers_unless_the_record_of_the_images_says_otherwise(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    run.info = msgspec.structs.replace(run.info, std=[1e-300])
    with pytest.raises(CascadeError, match=rf"x_0 of test samples is .*\nnext: delete {run.path}/x_0 and ingest again"):
        list(Feed(run, 0, CPU).sequential("test"))
