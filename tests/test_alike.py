"""What two runs differ in beside their seeds."""

from pathlib import Path

import pytest

from pipeline.experiments.alike import differing, settings_of
from pipeline.runfolder import RunFolder
from tests.runs import reopened, tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tiny_run(tmp_path_factory.mktemp("alike") / "run")


def changed(run: RunFolder, *settings: str) -> list[str]:
    return differing(settings_of(run), settings_of(reopened(run.path, *settings)))


@pytest.mark.parametrize("setting", ["seed=7", "machine.threads=1", "store.codec=none", "cache.keep=none"])
def test_a_seed_and_what_changes_no_result_are_no_difference(run: RunFolder, setting: str) -> None:
    assert changed(run, setting) == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.lr=0.01", "train.lr 0.1 -> 0.01"),
        ("stages.1.train.lr=0.01", "train.lr 0.1 -> 0.01 in stage 1 and end to end"),
        ("baseline.train.lr=0.01", "train.lr 0.1 -> 0.01 in end to end"),
        ("store.encoding=float32", "store.encoding of x_1 float16 -> float32"),
        ("train.label_smoothing=0.1", "train.label_smoothing 0.0 -> 0.1"),
        ("evaluate.ensemble=softmax", "evaluate.ensemble logits -> softmax"),
        ("network.stages=3", "network.stages 2 -> 3"),
    ],
)
def test_a_setting_that_results_depend_on_is_named_once(run: RunFolder, setting: str, said: str) -> None:
    assert changed(run, setting) == [said]


def test_other_images_are_named_by_what_they_were_made_from_or_their_content(run: RunFolder, tmp_path: Path) -> None:
    other = settings_of(tiny_run(tmp_path / "run", "data.seed=3"))
    assert differing(settings_of(run), other) == ["data.seed 0 -> 3"]
    same = {**settings_of(run), "": {**settings_of(run)[""], "images": "abc"}}
    assert [one.startswith("images ") for one in differing(settings_of(run), same)] == [True]
