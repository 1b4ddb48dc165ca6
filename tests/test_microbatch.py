"""Micro-batches: a batch taken through a stage in parts is the same batch."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import fit
from pipeline.config import HeadSection, NetworkSection
from pipeline.device import choose_device
from pipeline.errors import CascadeError, ConfigError, DeviceMemoryError
from pipeline.feed import Feed
from pipeline.microbatch import check_micro_batch, micro_batches, parts_of
from pipeline.progress import Reporter
from pipeline.step import train_step
from pipeline.training import train_stage
from pipeline.weights import load_tensors
from tests.runs import digits_run, reopened

CPU = choose_device("cpu")
GROUPS = ("network.bn_group=16", "train.batch_size=64", "network.precision=float32", "train.lr=0.01")


def test_a_stage_trained_in_parts_ends_as_one_trained_in_whole_batches(tmp_path: Path) -> None:
    weights = {}
    for size in (64, 32, 16):
        run = digits_run(tmp_path / str(size), *GROUPS, f"machine.micro_batch={size}")
        train_stage(run, 0, CPU, Reporter())
        weights[size], _ = load_tensors(run.stages[0].block)
    for size in (32, 16):
        torch.testing.assert_close(weights[size], weights[64], rtol=1e-3, atol=1e-4)


def test_the_micro_batch_is_in_no_key(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run", *GROUPS)
    assert reopened(run.path, "machine.micro_batch=16").stages[2].key == run.stages[2].key


def test_a_batch_that_comes_in_parts_is_the_same_batch(tmp_path: Path) -> None:
    run = digits_run(tmp_path / "run", *GROUPS)
    wholes = [x for x, _ in Feed(run, 0, CPU).training(1, start=128)]
    parts = [x for x, _ in Feed(run, 0, CPU, micro_batch=16).training(1, start=128)]
    assert {len(x) % 8 for x in parts} == {0}
    assert torch.equal(torch.cat(parts), torch.cat(wholes))


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        (("network.bn_group=32", "train.batch_size=128"), [128, 64, 32]),
        (("network.batch_norm=false", "train.batch_size=48"), [48, 24, 16, 8]),
        (("network.batch_norm=false", "train.batch_size=50"), [50]),
        (("train.batch_size=128",), [128]),
    ],
)
def test_micro_batches_divide_the_batch_into_whole_groups(
    tmp_path: Path, settings: tuple[str, ...], sizes: list[int]
) -> None:
    run = digits_run(tmp_path / "run", *settings)
    assert micro_batches(run.config, 1) == sizes
    with pytest.raises(
        ConfigError, match=rf"micro_batch = 7: stage 1 takes batches of {sizes[0]} in parts of {sizes[0]}"
    ):
        check_micro_batch(reopened(run.path, *settings, "machine.micro_batch=7").config, 1)


def test_the_sizes_of_a_huge_batch_are_found_at_once() -> None:
    sizes = parts_of(10**12, NetworkSection(stages=1, width=4, batch_norm=False), HeadSection(k=1, width=4))
    assert (len(sizes), sizes[0], sizes[-1]) == (13 * 10, 10**12, 8)
    assert all(10**12 % size == size % 8 == 0 for size in sizes)


def test_a_group_that_does_not_divide_the_batch_is_a_fault_of_the_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        digits_run(tmp_path / "run", "network.bn_group=16", "stages.1.train.batch_size=40", "train.batch_size=32")
    assert "stages.1.train.batch_size = 40: expected a multiple of network.bn_group = 16" in str(caught.value)
    with pytest.raises(ConfigError, match=r"network\.bn_group = 12: expected a multiple of 8"):
        digits_run(tmp_path / "other", "network.bn_group=12")


class Memory:
    """A device that has room for so many samples."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.train_step = train_step

    def step(self, learner: Any, parts: Any, *others: Any) -> None:
        self.train_step(learner, map(self.checked, parts), *others)

    def checked(self, part: Any) -> Any:
        if len(part[0]) > self.samples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return part


def test_out_of_memory_takes_smaller_parts_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_parts = digits_run(tmp_path / "parts", *GROUPS, "machine.micro_batch=32")
    train_stage(in_parts, 0, CPU, Reporter())
    monkeypatch.setattr(fit, "train_step", Memory(40).step)
    run = digits_run(tmp_path / "run", *GROUPS, "machine.shrink=true")
    train_stage(run, 0, CPU, Reporter())
    assert "out of memory with micro-batches of 64; going on with 32" in capsys.readouterr().err
    assert run.stages[0].block.read_bytes() == in_parts.stages[0].block.read_bytes()


@pytest.mark.parametrize("settings", [(), ("machine.shrink=true", "network.bn_group=0")])
def test_else_it_stops_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]) -> None:
    run = digits_run(tmp_path / "run", *GROUPS, *settings)
    monkeypatch.setattr(fit, "train_step", Memory(40).step)
    with pytest.raises(DeviceMemoryError, match="a step takes 64 samples") as caught:
        train_stage(run, 0, CPU, Reporter())
    assert isinstance(caught.value, CascadeError)
    assert "set a smaller machine.micro_batch" in str(caught.value)


def test_what_smaller_parts_would_not_help_is_not_tried_again_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = digits_run(tmp_path / "plain", *GROUPS, "data.validation=0.2")
    train_stage(plain, 0, CPU, Reporter())
    run = digits_run(tmp_path / "run", *GROUPS, "data.validation=0.2", "machine.shrink=true")

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(fit, "outputs", full)
        with pytest.raises(DeviceMemoryError) as caught:
            train_stage(run, 0, CPU, Reporter())
    assert "going on with" not in capsys.readouterr().err
    assert "machine.micro_batch" not in str(caught.value)
    assert "next: free some, then the same command goes on where it was;\n  or train anew with a smaller order.run" in (
        str(caught.value)
    )
    assert run.stages[0].checkpoint.exists(), "of the epoch that was to be validated"
    train_stage(run, 0, CPU, Reporter())
    assert "going on at epoch 1, image" in capsys.readouterr().err
    assert run.stages[0].block.read_bytes() == plain.stages[0].block.read_bytes()
