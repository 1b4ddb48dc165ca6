"""Where it computes: what is told to CUDA, and what a device without room says."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cascade import Head
from cascade.heads import quadrants
from pipeline.device import CUBLAS_WORKSPACE, choose_device, determinism, is_out_of_memory
from pipeline.errors import ConfigError
from pipeline.progress import Reporter
from pipeline.training import train_stage
from tests.conftest import Outcome
from tests.runs import bytes_of, copied, tiny_run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def no_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUBLAS_WORKSPACE, "")
    monkeypatch.delenv(CUBLAS_WORKSPACE)


def flags() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


def test_cuda_is_told_to_compute_the_same_bits_and_only_within() -> None:
    before = flags()

    @determinism(CUDA, asked_for=True)
    def breaks() -> None:
        assert flags() == (True, True, False)
        assert os.environ[CUBLAS_WORKSPACE] == ":4096:8"
        raise KeyError

    with pytest.raises(KeyError):
        breaks()
    assert flags() == before


@pytest.mark.parametrize(("device", "asked_for"), [(CPU, True), (CUDA, False)])
def test_nothing_is_told_to_a_cpu_or_unasked(device: torch.device, asked_for: bool) -> None:
    before = flags()
    with determinism(device, asked_for=asked_for):
        assert flags() == before
    assert CUBLAS_WORKSPACE not in os.environ


def test_the_workspace_is_fixed_before_the_device_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def looked_at() -> bool:
        seen.append(os.environ.get(CUBLAS_WORKSPACE))
        return False

    monkeypatch.setattr(torch.cuda, "is_available", looked_at)
    choose_device("auto", deterministic=True)
    assert seen == [":4096:8"]


def test_a_workspace_that_is_not_fixed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":0:0")
    with pytest.raises(ConfigError, match=r"CUBLAS_WORKSPACE_CONFIG = :0:0\nnext: unset it, or set it to :4096:8"):
        choose_device("cpu", deterministic=True)


@pytest.mark.parametrize("side", range(2, 10))
def test_the_heads_average_with_an_ordered_gradient_is_the_adaptive_one(side: int) -> None:
    x = torch.randn(3, 5, side, side + 1, requires_grad=True)
    ours, theirs = quadrants(x), torch.nn.AdaptiveAvgPool2d(2)(x)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, theirs)))


def test_a_head_takes_the_ordered_average_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    head, x = Head(3, k=1, width=4, classes=5), torch.randn(2, 3, 5, 5)
    monkeypatch.setattr(head.average, "forward", lambda _: pytest.fail("the adaptive average"))
    with determinism(CUDA, asked_for=True):
        assert head(x).shape == (2, 5)


def test_deterministic_changes_nothing_on_a_cpu_but_its_record(tmp_path: Path) -> None:
    plain = tiny_run(tmp_path / "plain")
    asked = copied(plain, tmp_path / "asked", "machine.deterministic=true")
    for run in (plain, asked):
        train_stage(run, 0, CPU, Reporter())
    assert bytes_of(plain, 0) == bytes_of(asked, 0)
    records = plain.stages[0].record, asked.stages[0].record
    assert [record and record.machine["deterministic"] for record in records] == [False, True]


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
@pytest.mark.parametrize("step", [0, 1, 4])
def test_a_device_without_room_is_exit_code_6_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cascade: Callable[..., Outcome], error: Exception, step: int
) -> None:
    whole = tiny_run(tmp_path / "whole", "machine.checkpoint_minutes=0")
    full = copied(whole, tmp_path / "full")
    train_stage(whole, 0, CPU, Reporter())
    steps = 0

    def breaks(logits: Tensor, y: Tensor, **how: Any) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == step + 1:
            raise error
        return torch.nn.functional.cross_entropy(logits, y, **how)

    assert is_out_of_memory(error)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.step.cross_entropy", breaks)
        code, _, err = cascade("train-stage", "--j", 0, "--run", full.path)
        assert code == 6
        assert f"error: stage 0: out of memory on cpu: {str(error).splitlines()[0]}\n" in err
        assert "a step takes 8 samples (train.batch_size)" in err
        assert "the peak so far was " in err
        assert "\nnext: " in err
        assert cascade("train-stage", "--j", 0, "--run", full.path)[0] == 0
    assert steps == 7, "no step was made twice but the one that failed"
    assert bytes_of(whole, 0) == bytes_of(full, 0)
