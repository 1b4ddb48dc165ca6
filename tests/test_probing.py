"""`cascade probe`: every x_j that can be had, each probe once, and what the folder's other commands make of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.device import choose_device
from pipeline.errors import ConfigError, RefusedError
from pipeline.experiments.probing import probe, reachable
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from tests.conftest import Outcome
from tests.runs import copied, reopened, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run folder in which both stages are trained."""
    run = tiny_run(tmp_path_factory.mktemp("probed") / "run", "network.precision=float32")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    return run


def test_a_probe_is_made_once(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = copied(run, tmp_path / "ours")
    found = probe(ours, [0, 1, 2], ["linear", "cnn-1"], CPU, Reporter())
    assert [(one.kind, one.j) for one in found] == [(kind, j) for kind in ("linear", "cnn-1") for j in range(3)]
    capsys.readouterr()
    assert probe(ours, [0, 1, 2], ["linear", "cnn-1"], CPU, Reporter()) == found
    assert "epoch" not in capsys.readouterr().err


@pytest.mark.parametrize("policy", ["views", "none", "canvas", "recompute"])
def test_which_x_j_are_stored_changes_no_probe(tmp_path: Path, policy: str) -> None:
    settings = (f"augment.policy={policy}", "network.precision=float32")
    stored = tiny_run(tmp_path / "stored", *settings, "cache.keep=all")
    train_stage(stored, 0, CPU, Reporter())
    bare = copied(stored, tmp_path / "bare")
    for store in bare.path.glob("stages/*/x_1"):
        store.rename(tmp_path / "away")
    results = [probe(one, [1], ["linear", "cnn-2"], CPU, Reporter()) for one in (stored, bare)]
    assert len({tuple(one.record.test_accuracy for one in found) for found in results}) == 1
    weights = [next(one.path.glob("probes/*/head.safetensors")).read_bytes() for one in (stored, bare)]
    assert weights[0] == weights[1]


def test_the_last_x_j_of_canvases_can_be_probed(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "augment.policy=canvas", "network.precision=float32")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    assert reachable(run) == [0, 1, 2]
    assert [one.j for one in probe(run, [2], ["linear", "cnn-1"], CPU, Reporter())] == [2, 2]


def test_x_j_of_blocks_that_are_not_trained_or_not_there_is_refused(run: RunFolder) -> None:
    other = reopened(run.path, "seed=3")
    assert reachable(other) == [0]
    with pytest.raises(RefusedError, match=r"block 0 is needed first, and it is not trained"):
        probe(other, [1], ["linear"], CPU, Reporter())
    with pytest.raises(ConfigError, match=r"--j 3: the network has x_0 to x_2\nnext: "):
        probe(run, [3], ["linear"], CPU, Reporter())


def test_from_the_command_line_to_status_verify_and_gc(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = copied(run, tmp_path / "ours").path
    code, out, err = cascade("probe", "--run", folder, "--j", 1, "--kind", "linear", "--kind", "cnn-1", "--json")
    assert code == 0, err
    rows = json.loads(out)["probes"]
    assert [(row["j"], row["kind"]) for row in rows] == [(1, "linear"), (1, "cnn-1")]
    assert {row["input"] for row in rows} == {run.stages[0].key}
    beside = json.loads(cascade("status", "--run", folder, "--json")[1])["beside"]
    assert [(one["what"], one["state"], one["test_accuracy"]) for one in beside] == [
        (f"{row['kind']} on x_1", "done", row["test_accuracy"]) for row in rows
    ]
    _, out, _ = cascade("verify", "--run", folder)
    assert "2 experiments" in out
    assert "no damage" in out
    kept = json.loads(cascade("gc", "--run", folder, "--json")[1])["garbage"]
    assert not [one for one in kept if "probes" in one["path"]]
    stale = json.loads(cascade("gc", "--run", folder, "--json", "--set", "probe.samples=9")[1])["garbage"]
    (one,) = [one for one in stale if "probes" in one["path"]]
    assert one["why"].startswith("linear on x_1 with other settings, test ")
    assert one["why"].endswith("%: probe.samples 27 -> 9")


def test_a_probe_of_options_of_one_command_is_listed_and_said_how_to_keep(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = copied(run, tmp_path / "ours").path
    options = ("probe", "--run", folder, "--j", 0, "--kind", "linear", "--kind", "cnn-1")
    code, _, err = cascade(*options, "--epochs", 1, "--samples", 16)
    assert code == 0, err
    assert err.endswith("next: to keep it, put in cascade.toml: [probe.train] epochs = 1, [probe] samples = 16\n")
    beside = json.loads(cascade("status", "--run", folder, "--json")[1])["beside"]
    assert sorted((one["what"], one["state"], one["reason"]) for one in beside) == [
        ("cnn-1 on x_0", "stale", "train.epochs 1 -> 2"),
        ("linear on x_0", "stale", "probe.samples 16 -> 27"),
    ]
    warnings = json.loads(cascade("report", "--run", folder, "--json")[1])["runs"][0]["warnings"]
    assert [one for one in warnings if one.startswith("not shown: cnn-1 on x_0, stale, test ")]
    assert "cascade.toml" not in cascade(*options)[2]


def test_the_images_of_a_folder_without_are_ingested_for_a_probe_of_them_alone(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = copied(run, tmp_path / "ours").path
    shutil.rmtree(folder / "x_0")
    assert cascade("probe", "--run", folder)[0] == 3
    code, _, err = cascade("probe", "--run", folder, "--j", 0, "--kind", "linear")
    assert (code, "27 train" in err) == (0, True), err


def test_a_flipped_digit_in_a_linear_record_is_found(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    folder = copied(run, tmp_path / "ours").path
    cascade("probe", "--run", folder, "--j", 0, "--kind", "linear")
    (path,) = folder.glob("probes/*/probe.json")
    path.write_text(path.read_text().replace('"samples": 27', '"samples": 28'))
    code, out, _ = cascade("verify", "--run", folder)
    assert code == 4
    assert f"delete {path.parent} and cascade probe --j 0" in out
    assert cascade("probe", "--run", folder, "--j", 0, "--kind", "linear")[0] == 4
