"""`cascade baseline --plan`: time and memory of the network end to end, with nothing trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.device import choose_device
from pipeline.experiments.end_to_end import end_to_end
from pipeline.experiments.foreseen import plan_baseline
from pipeline.runfolder import RunFolder
from tests.conftest import Outcome
from tests.runs import copied, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run folder with images and nothing trained."""
    return tiny_run(tmp_path_factory.mktemp("foreseen") / "run", "network.precision=float32")


def test_its_plan_is_of_what_it_does_and_trains_nothing(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    ours = copied(run, tmp_path / "ours")
    asked = ("--run", ours.path, "--set", "machine.device=cpu", "--plan")
    code, out, _ = cascade("baseline", *asked, "--epochs", "30", "--json")
    found = json.loads(out)
    assert (code, found["epochs"], found["micro_batch"], found["device_peak_bytes"]) == (0, 30, 8, None)
    trained = found["seconds"] - 30 * ours.info.samples["train"] / found["images_per_second"]
    assert 0 < trained < found["seconds"], "validation and test"
    code, out, _ = cascade("baseline", *asked, "--device-memory", "200 MB")
    assert (code, "for 2 epochs" in out, "of its memory predicted" in out) == (0, True, True)
    assert not end_to_end(ours).folder.path.exists()


def test_what_does_not_fit_end_to_end_is_refused_by_its_plan_too(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    code, _, err = cascade("baseline", "--plan", "--run", run.path, "--device-memory", "20 KB")
    assert (code, "end to end needs at least" in err) == (6, True)


def test_twice_the_network_is_planned_to_take_longer(run: RunFolder, tmp_path: Path) -> None:
    deeper = copied(run, tmp_path / "ours", "network.stages=8", "network.width=32")
    assert plan_baseline(deeper, CPU).images_per_second < plan_baseline(run, CPU).images_per_second
