"""Budgets of the device: the largest micro-batch that is predicted to fit, recomputation where nothing else does."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline.config import Config
from pipeline.device import choose_device
from pipeline.errors import DeviceMemoryError
from pipeline.ondevice import HEADROOM, OnDevice, choose_on_device, limit_device
from pipeline.outline import Outline
from pipeline.progress import size
from pipeline.shapes import network_shapes
from tests.configs import loaded

CPU = choose_device("cpu")
TEXT = """
[data]
source = "digits:"
[network]
stages = 3
width = 16
bn_group = 16
precision = "bfloat16"
[head]
k = 3
width = 32
[augment]
flip = true
[train]
batch_size = 64
[order]
run = 8
window = 64
"""


def outline(folder: Path, *settings: str) -> Outline:
    config: Config = loaded(folder, *settings, text=TEXT)
    shapes = network_shapes(config, channels=3, image_side=32)
    samples = {"train": 640, "validation": 64, "test": 64}
    return Outline(config=config, channels=3, side=32, classes=10, samples=samples, shapes=shapes)


def chosen(folder: Path, *settings: str, j: int = 1) -> OnDevice:
    return choose_on_device(outline(folder, *settings), j, anchor=j, device=CPU)


def peak(folder: Path, *settings: str) -> int:
    """As predicted, where the budget is no matter."""
    found = chosen(folder, "budget.device=1 TB", *settings).peak_bytes
    assert found is not None
    return found


def budget_of(nbytes: int) -> str:
    return f"budget.device={int(nbytes / HEADROOM) + 1}"


def test_where_nothing_limits_it_a_batch_goes_through_as_a_whole(tmp_path: Path) -> None:
    found = chosen(tmp_path)
    assert (found.micro_batch, found.recompute, found.peak_bytes) == (64, False, None)


def test_the_largest_micro_batch_that_fits_is_taken(tmp_path: Path) -> None:
    peaks = {count: peak(tmp_path, f"machine.micro_batch={count}") for count in (64, 32, 16)}
    assert peaks[64] > peaks[32] > peaks[16]
    for count, nbytes in peaks.items():
        found = chosen(tmp_path, budget_of(nbytes), "machine.recompute=never")
        assert (found.micro_batch, found.peak_bytes) == (count, nbytes)


def test_a_stage_recomputes_where_it_does_not_fit_otherwise_and_may(tmp_path: Path) -> None:
    plain = peak(tmp_path, "machine.micro_batch=16", "machine.recompute=never")
    less = peak(tmp_path, "machine.micro_batch=16", "machine.recompute=always")
    assert less < plain
    found = chosen(tmp_path, budget_of(less))
    assert found.recompute
    with pytest.raises(DeviceMemoryError):
        chosen(tmp_path, budget_of(less), "machine.recompute=never")


def test_what_fits_in_no_way_is_refused_with_what_would_take_less(tmp_path: Path) -> None:
    with pytest.raises(DeviceMemoryError, match=r"stage 1 needs at least .* of device memory, for ") as caught:
        chosen(tmp_path, "budget.device=100 KB")
    assert "next: raise budget.device to " in str(caught.value)
    assert "; no smaller head.width, order.run or network.bn_group, nor a larger head.pool, is enough" in (
        str(caught.value)
    )
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("settings", "change", "value"),
    [(("network.bn_group=0",), "network.bn_group", 16), ((), "head.pool", 2), (("order.run=64",), "order.run", 16)],
)
def test_a_refusal_names_the_one_setting_that_fits_and_what_it_takes(
    tmp_path: Path, settings: tuple[str, ...], change: str, value: int
) -> None:
    changed = (*(one for one in settings if not one.startswith(change)), f"{change}={value}")
    least = peak(tmp_path, *changed, "machine.micro_batch=16", "machine.recompute=always")
    with pytest.raises(DeviceMemoryError) as caught:
        chosen(tmp_path, *settings, budget_of(least))
    assert f"; or set {change} = {value}, which takes {size(least)} and " in str(caught.value)
    assert chosen(tmp_path, *changed, budget_of(least)).peak_bytes == least


def test_a_micro_batch_that_was_set_and_does_not_fit_is_to_be_left_out_first(tmp_path: Path) -> None:
    fits = peak(tmp_path, "machine.micro_batch=32", "machine.recompute=never")
    with pytest.raises(DeviceMemoryError, match=r"stage 1 needs \d.* with machine.micro_batch = 64, for ") as caught:
        chosen(tmp_path, budget_of(fits), "machine.micro_batch=64", "machine.recompute=never")
    assert "next: leave machine.micro_batch out or set it to 32, which takes " in str(caught.value)


def test_the_peak_does_not_grow_with_the_prefix_that_is_replayed(tmp_path: Path) -> None:
    deep = outline(tmp_path, "network.stages=24", "budget.device=1 TB")
    near = choose_on_device(deep, 3, anchor=1, device=CPU)
    tight = outline(tmp_path, "network.stages=24", budget_of(near.peak_bytes or 0))
    far = choose_on_device(tight, 23, anchor=1, device=CPU)
    assert far.micro_batch == near.micro_batch
    assert far.streamed, "its weights are not on the device for good"


@pytest.mark.parametrize(("budget", "share"), [("2 GB", 0.25), ("16 GB", 1.0)])
def test_a_stated_budget_caps_torch_itself_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str, share: float
) -> None:
    caps: list[float] = []
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(total_memory=8 * 10**9))
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda fraction, _: caps.append(fraction))
    limit_device(loaded(tmp_path, f'budget.device="{budget}"'), torch.device("cuda"))
    limit_device(loaded(tmp_path), torch.device("cuda"))
    assert caps == [share]


def test_what_a_stage_leaves_of_a_gpu_holds_its_prefix_and_then_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (4 * 10**9, 8 * 10**9))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 10**9)
    found = choose_on_device(outline(tmp_path), 2, anchor=0, device=torch.device("cuda"))
    assert found.micro_batch == 64
    assert not found.streamed, "all of it stays"
    assert found.peak_bytes is not None
    assert found.store_bytes == int(HEADROOM * 5 * 10**9) - found.peak_bytes
