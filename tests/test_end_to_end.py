"""The network end to end: what it depends on, and how it comes back from its files."""

from pathlib import Path

import pytest
import torch

from pipeline.device import choose_device
from pipeline.errors import CorruptDataError
from pipeline.evaluation import outputs
from pipeline.experiments.baseline import train_baseline
from pipeline.experiments.end_to_end import end_to_end, load_end_to_end
from pipeline.feed import Feed
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.weights import load_tensors
from tests.runs import reopened, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tiny_run(tmp_path_factory.mktemp("whole") / "run")


def key(run: RunFolder, *settings: str) -> str:
    return end_to_end(reopened(run.path, *settings)).key


@pytest.mark.parametrize(
    "setting",
    [
        "seed=1",
        "train.lr=0.3",
        "stages.1.train.lr=0.3",
        "baseline.train.epochs=5",
        "baseline.head_width=16",
        "network.width=8",
        "head.k=3",
        "augment.padding=2",
        "order.window=32",
    ],
)
def test_what_changes_its_result_changes_its_key(run: RunFolder, setting: str) -> None:
    assert key(run, setting) != key(run)


@pytest.mark.parametrize(
    "setting",
    [
        "stages.0.train.lr=0.3",
        "stages.0.head.width=16",
        "augment.views=3",
        "augment.policy=canvas",
        "store.encoding=uint8",
        "cache.keep=none",
        "machine.threads=1",
        "baseline.train.epochs=2",
        "probe.train.epochs=9",
    ],
)
def test_what_changes_no_result_of_it_changes_no_key(run: RunFolder, setting: str) -> None:
    assert key(run, setting) == key(run)


def test_its_settings_are_those_of_the_last_stage_but_for_its_own(run: RunFolder) -> None:
    own = reopened(run.path, "stages.1.train.lr=0.3", "stages.1.head.k=3", "baseline.train.epochs=7")
    problem = end_to_end(own)
    assert (problem.train.lr, problem.train.epochs, problem.head.k) == (0.3, 7, 3)
    assert end_to_end(reopened(run.path, "baseline.head_width=24")).shape.head_width == 24


def test_it_comes_back_with_the_outputs_that_it_ended_with(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "network.precision=float32")
    train_baseline(run, CPU, Reporter())
    folder = end_to_end(run).folder
    network = load_end_to_end(run)
    assert not network.training
    logits, _ = outputs(Feed(run, 0, CPU), network, "test")
    assert logits.equal(load_tensors(folder.test_logits)[0]["logits"])
    folder.head.write_bytes(folder.block.read_bytes())
    with pytest.raises(CorruptDataError, match=r"head.safetensors is whole, but not the file"):
        load_end_to_end(run)


def test_nothing_is_rounded_between_its_blocks(run: RunFolder) -> None:
    blocks, _ = end_to_end(run).modules(run)
    x = torch.randn(8, 1, 8, 8)
    expected = x
    for block in blocks.children():
        expected = block(expected)
    assert torch.equal(blocks(x), expected)
