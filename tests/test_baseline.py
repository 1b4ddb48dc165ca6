"""`cascade baseline`: trained like a stage, resumed like one, and shown beside them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.device import choose_device
from pipeline.errors import ConfigError, DeviceMemoryError, DiskError, Stopped
from pipeline.evaluation import evaluate
from pipeline.experiments.baseline import compared, train_baseline
from pipeline.experiments.end_to_end import end_to_end
from pipeline.metrics import read_metrics
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from pipeline.weights import load_tensors
from tests.conftest import Outcome
from tests.runs import copied, reopened, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run folder with images and nothing trained."""
    return tiny_run(tmp_path_factory.mktemp("whole") / "run", "network.precision=float32")


def files(run: RunFolder) -> dict[str, bytes]:
    folder = end_to_end(run).folder.path
    timed = ("stage.json", "metrics.jsonl")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in timed}


def test_it_leaves_what_a_stage_leaves_and_is_left_alone_afterwards(run: RunFolder, tmp_path: Path) -> None:
    ours = copied(run, tmp_path / "ours")
    record = train_baseline(ours, CPU, Reporter())
    assert set(files(ours)) == {"block.safetensors", "head.safetensors", "test_logits.safetensors"}
    assert len(read_metrics(end_to_end(ours).folder)) == record.epochs == 2
    before = files(ours)
    assert train_baseline(ours, CPU, Reporter()) == record
    assert files(ours) == before


@pytest.mark.parametrize("looks", [1, 2, 4, 6, 7])
def test_stopped_at_any_point_it_ends_in_the_same_bytes(run: RunFolder, tmp_path: Path, looks: int) -> None:
    whole, stopped = copied(run, tmp_path / "whole"), copied(run, tmp_path / "stopped")
    train_baseline(whole, CPU, Reporter())
    left = looks

    def should_stop() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    with pytest.raises(Stopped):
        train_baseline(stopped, CPU, Reporter(), should_stop=should_stop)
    assert end_to_end(stopped).folder.record is None
    train_baseline(stopped, CPU, Reporter())
    assert files(stopped) == files(whole)


def test_a_network_of_one_block_ends_as_its_stage_does(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "network.stages=1", "network.downsample_at=[]", "network.precision=float32")
    train_stage(run, 0, CPU, Reporter())
    train_baseline(run, CPU, Reporter())
    folder, stage = end_to_end(run).folder, run.stages[0]
    assert folder.block.read_bytes() == stage.block.read_bytes()
    assert folder.head.read_bytes() == stage.head.read_bytes()
    assert folder.test_logits.read_bytes() == stage.test_logits.read_bytes()


def test_micro_batches_and_recomputation_change_the_last_bits_at_most(tmp_path: Path) -> None:
    settings = ("network.batch_norm=false", "network.precision=float32", "train.batch_size=16")
    run = tiny_run(tmp_path / "run", *settings)
    small = copied(run, tmp_path / "small", "machine.micro_batch=8", "machine.recompute=always")
    train_baseline(run, CPU, Reporter())
    record = train_baseline(small, CPU, Reporter())
    assert record.machine["micro_batch"] == 8
    ours, theirs = (load_tensors(end_to_end(one).folder.block)[0] for one in (run, small))
    torch.testing.assert_close(ours, theirs)


def test_evaluation_shows_it_beside_the_stages_and_the_same_from_the_images(run: RunFolder, tmp_path: Path) -> None:
    ours = copied(run, tmp_path / "ours")
    for j in range(2):
        train_stage(ours, j, CPU, Reporter())
    assert evaluate(ours).end_to_end is None
    record = train_baseline(ours, CPU, Reporter())
    kept, again = evaluate(ours), evaluate(ours, recompute_on=CPU)
    assert kept.end_to_end is not None
    assert kept.end_to_end.top1 == record.test_accuracy
    assert kept == again
    assert [row.what for row in compared(ours, record)] == ["stage 0", "stage 1", "end to end"]


def test_a_part_that_batches_do_not_come_in_is_refused(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"machine.micro_batch = 3: end to end takes batches of 8 in parts of 8"):
        train_baseline(reopened(run.path, "machine.micro_batch=3"), CPU, Reporter())


def test_too_little_memory_or_disk_is_refused_before_anything_is_trained(run: RunFolder, tmp_path: Path) -> None:
    ours = copied(run, tmp_path / "ours", "budget.device=2000")
    with pytest.raises(DeviceMemoryError, match=r"end to end needs at least .* of device memory, for a training step"):
        train_baseline(ours, CPU, Reporter())
    with pytest.raises(DiskError, match=r"end to end: weights and checkpoints take .*\nnext: make room"):
        train_baseline(reopened(ours.path, "budget.disk=2000"), CPU, Reporter())
    assert not (ours.path / "baselines").exists()


def test_the_images_of_a_folder_without_are_ingested(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = copied(run, tmp_path / "ours").path
    shutil.rmtree(folder / "x_0")
    code, _, err = cascade("baseline", "--run", folder)
    assert code == 0, err
    assert "ingested from" in err


def test_init_says_the_command_that_a_preset_is_for(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    for name, command in (("cifar10-compression-baseline", "baseline"), ("digits", "run")):
        out = cascade("init", name, tmp_path / name)[1]
        assert out.endswith(f"next: cascade {command} --run {tmp_path / name}\n")


def test_from_the_command_line(run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    folder = copied(run, tmp_path / "ours").path
    code, out, err = cascade("baseline", "--run", folder, "--epochs", 1, "--head-width", 16, "--json")
    assert code == 0, err
    (row,) = json.loads(out)["rows"]
    assert (row["what"], row["epochs"]) == ("end to end", 1)
    beside = json.loads(cascade("status", "--run", folder, "--json")[1])["beside"]
    assert [(one["what"], one["state"]) for one in beside] == [("end to end", "stale")]
    assert beside[0]["reason"] == "head.width 16 -> 8; train.epochs 1 -> 2"
    put = "next: to keep it, put in cascade.toml: [baseline.train] epochs = 1, [baseline] head_width = 16\n"
    assert err.endswith(put)
    assert "cascade.toml" not in cascade("baseline", "--run", folder, "--epochs", 2)[2], "which the config says too"
    beside = json.loads(cascade("status", "--run", folder, "--json")[1])["beside"]
    assert [one["state"] for one in beside] == ["done", "stale"]
    assert "--keep-branches leaves what was made with other settings" in cascade("gc", "--run", folder)[2]
    own = ("--set", "baseline.train.epochs=1", "--set", "baseline.head_width=16")
    assert json.loads(cascade("status", "--run", folder, "--json", *own)[1])["beside"][0]["state"] == "done"
    assert cascade("baseline", "--run", folder, "--set", "baseline.train.epoch=3")[0] == 2
