"""What the paper compares, and where its text and its code differ, from the config alone to a trained stage."""

from pathlib import Path

import pytest
import torch

from pipeline.device import choose_device
from pipeline.networks import load_block, load_head
from pipeline.peak import stage_work
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from tests.runs import bytes_of, copied, tiny_run

CPU = choose_device("cpu")


def trained(folder: Path, *settings: str) -> RunFolder:
    run = tiny_run(folder, *settings)
    for j in range(len(run.stages)):
        train_stage(run, j, CPU, Reporter())
    return run


@pytest.mark.parametrize("policy", ["recompute", "views", "canvas", "none"])
@pytest.mark.parametrize("downsample", ["strided", "average", "max"])
def test_other_down_samplings_train_under_every_policy_stored_as_replayed(
    tmp_path: Path, downsample: str, policy: str
) -> None:
    settings = (f"network.downsample={downsample}", f"augment.policy={policy}", "network.width=6", "train.epochs=1")
    run = trained(tmp_path / "run", *settings)
    assert [(shape.out_channels, shape.out_side) for shape in run.shapes] == [(6, 8), (12, 4)]
    assert load_block(run, 1).conv.weight.shape == (12, 6, 3, 3), "which see as many channels as there are"
    assert run.is_stored(1) == (policy != "recompute")
    replayed = copied(run, tmp_path / "replayed", "cache.keep=none")
    for path in replayed.stages[1].path.iterdir():
        path.unlink()
    replayed.stages[1].path.rmdir()
    train_stage(replayed, 1, CPU, Reporter())
    assert bytes_of(replayed, 1) == bytes_of(run, 1)


@pytest.mark.parametrize("width", [4, 8])
def test_width_makes_every_layer_of_the_blocks_so_wide(tmp_path: Path, width: int) -> None:
    run = trained(tmp_path / "run", f"network.width={width}", "train.epochs=1")
    assert [load_block(run, j).conv.out_channels for j in range(2)] == [width, 2 * width]
    assert load_head(run, 1).state_dict()["hidden.0.weight"].shape[1] == 2 * width


BIAS = ("network.bias=all", "head.pooled_norm=false")
ODD = ("augment.crop=6", "augment.padding=0", "head.average=floor")


@pytest.mark.parametrize("settings", [BIAS, ("network.bias=none", "network.batch_norm=false"), ODD])
def test_what_text_and_code_differ_in_changes_what_is_trained(tmp_path: Path, settings: tuple[str, ...]) -> None:
    one = trained(tmp_path / "one", *settings)
    plain = [text for text in settings if text.startswith(("augment", "network.batch_norm"))]
    other = trained(tmp_path / "other", *plain)
    assert one.fields[1] != other.fields[1]
    assert bytes_of(one, 1) != bytes_of(other, 1)


def test_biases_and_the_second_batch_norm_are_where_the_config_has_them(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", *BIAS, "train.epochs=1")
    block, head = load_block(run, 1), load_head(run, 1)
    assert block.conv.bias is not None
    assert "hidden.0.bias" in dict(head.named_parameters())
    assert not list(head.norm.parameters())


def test_memory_is_predicted_for_the_same_modules(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", *BIAS, *ODD)
    work = stage_work(run.outline, 1, anchor=0, device_type="cpu", dtype=torch.float32)
    blocks, head = work.trained().modules()
    assert "0.conv.bias" in dict(blocks.named_parameters())
    assert not list(head.norm.parameters())
    assert type(head.average).__name__ == "FloorAverage"
    assert "blocks.0.conv.bias" in dict(work.replayed(0).prefixes()[0].named_parameters())
