"""Damage to what lies beside the stages: no command that can do without stops, and each says what makes it again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.device import choose_device
from pipeline.errors import CorruptDataError
from pipeline.experiments.baseline import train_baseline
from pipeline.experiments.end_to_end import end_to_end
from pipeline.experiments.probes import probe_folder
from pipeline.experiments.probing import probe
from pipeline.metrics import read_metrics
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.training import train_stage
from pipeline.weights import load_tensors
from tests.conftest import Outcome
from tests.runs import copied, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Both stages trained, the network end to end, and probes of the images."""
    run = tiny_run(tmp_path_factory.mktemp("whole") / "run", "train.epochs=1")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
    train_baseline(run, CPU, Reporter())
    probe(run, [0], ["linear", "cnn-1"], CPU, Reporter())
    return run


def cut(path: Path) -> Path:
    """Without its last bytes."""
    path.write_bytes(path.read_bytes()[:-30])
    return path


def records(run: RunFolder) -> dict[str, Path]:
    """The command that makes it -> a record."""
    return {
        "baseline": end_to_end(run).folder.record_path,
        "probe --j 0": probe_folder(run, 0, "cnn-1").record_path,
        "probe --j 0 --kind linear": probe_folder(run, 0, "linear").path / "probe.json",
    }


@pytest.mark.parametrize("command", ["baseline", "probe --j 0", "probe --j 0 --kind linear"])
def test_a_damaged_record_stops_no_command_that_can_do_without(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome], command: str
) -> None:
    ours = copied(run, tmp_path / "ours")
    path = cut(records(ours)[command])
    code, out, err = cascade("status", "--run", ours.path, "--json")
    assert code == 0, err
    (row,) = [one for one in json.loads(out)["beside"] if one["state"] == "damaged"]
    assert (row["path"], row["test_accuracy"]) == (str(path.parent), None)
    assert f"cascade {command} --run {ours.path}" in row["reason"]
    assert "train the stage again" not in row["reason"]
    assert cascade("gc", "--run", ours.path)[0] == cascade("evaluate", "--run", ours.path)[0] == 0
    code, _, err = cascade(*command.split(), "--run", ours.path)
    assert (code, "is damaged" in err, f"cascade {command}" in err) == (4, True, True)


@pytest.mark.parametrize("name", ["baseline", "probe --j 0 --kind linear"])
def test_gc_lists_a_damaged_record_of_other_settings_as_what_it_is(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome], name: str
) -> None:
    ours = copied(run, tmp_path / "ours")
    path = cut(records(ours)[name])
    options = ("--run", ours.path, "--json", "--set", "seed=7")
    garbage = json.loads(cascade("gc", *options)[1])["garbage"]
    (why,) = [one["why"] for one in garbage if one["path"] == str(path.parent)]
    assert " with other settings, damaged: " in why
    beside = json.loads(cascade("status", *options)[1])["beside"]
    assert [one["path"] for one in beside if one["state"] == "damaged"] == [str(path.parent)]


@pytest.mark.parametrize("name", ["record_path", "test_logits"])
def test_evaluation_of_the_stages_notes_what_is_damaged_of_the_network_end_to_end(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome], name: str
) -> None:
    ours = copied(run, tmp_path / "ours")
    path = cut(getattr(end_to_end(ours).folder, name))
    code, out, err = cascade("evaluate", "--run", ours.path, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (len(found["stages"]), "end_to_end" in found) == (2, False)
    assert [str(path) in note for note in found["notes"]] == [True]
    assert f"not scored: {found['notes'][0]}" in err
    assert json.loads(cascade("evaluate", "--run", run.path, "--json")[1]).keys() >= {"end_to_end"}


def test_evaluation_of_the_stages_notes_a_damaged_refit(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    ours = copied(run, tmp_path / "ours")
    code, out, err = cascade("refit-last", "--head-width", 16, "--run", ours.path, "--json")
    assert code == 0, err
    assert [one["head_width"] for one in json.loads(out)["refits"]] == [16]
    known = {stage.test_logits for stage in ours.stages}
    (path,) = [one for one in ours.path.glob("stages/*/test_logits.safetensors") if one not in known]
    cut(path)
    code, out, err = cascade("evaluate", "--run", ours.path)
    assert (code, f"not scored: {path}" in err) == (0, True)


@pytest.mark.parametrize("name", ["metrics", "block"])
def test_the_remedy_of_its_other_files_is_its_own_command(run: RunFolder, tmp_path: Path, name: str) -> None:
    folder = end_to_end(copied(run, tmp_path / "ours")).folder
    path = cut(getattr(folder, name))
    with pytest.raises(CorruptDataError, match=rf"and cascade baseline --run {tmp_path}/ours"):
        read_metrics(folder) if name == "metrics" else load_tensors(path)
