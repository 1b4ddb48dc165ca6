"""Which seeds of a sweep count together: those of the same settings; the others are named, whatever is wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import RefusedError
from pipeline.experiments.scores import scored
from pipeline.experiments.seeds import seed_folder
from pipeline.experiments.seedscores import scores_of, seed_scores
from pipeline.experiments.summary import read_summary
from pipeline.experiments.sweep import sweep
from pipeline.presets import with_setting
from pipeline.progress import Reporter
from pipeline.runs import run_stages
from tests.conftest import Outcome
from tests.runs import reopened
from tests.test_sweep import parent_of_seeds, swept

OTHER = "train.lr=0.000001"
CHANGE = "train.lr 0.1 -> 1e-06"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeds 0 and 1, and seed 0 again with another rate; not to be changed."""
    parent = parent_of_seeds(tmp_path_factory.mktemp("mixed") / "run")
    swept(parent, 0, 1)
    assert [one.test.n for one in sweep(parent, [0], [OTHER], None, "cpu", Reporter()).rows] == [1, 1, 1]
    return parent


@pytest.fixture
def parent(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))


def edit(folder: Path, setting: str) -> None:
    path = folder / "cascade.toml"
    path.write_text(with_setting(path.read_text(), setting))


def test_a_seed_of_other_settings_is_left_out_and_named(trained: Path) -> None:
    found = seed_scores(trained)
    assert [*found.scores] == [1]
    assert found.notes == [f"left out, of other settings: seed 0: {CHANGE}"]


def test_a_sweep_counts_the_seeds_of_its_own_settings_and_seals_that(trained: Path) -> None:
    summary = read_summary(trained)
    assert summary is not None
    assert [row.seeds for row in summary.rows] == [[0]] * 3
    assert summary.notes == ["left out, of other settings: seed 1: train.lr 1e-06 -> 0.1"]
    assert [*seed_scores(trained, [OTHER]).scores] == [0]


def test_seeds_that_are_alike_count_where_the_config_has_moved_on(parent: Path) -> None:
    swept(parent, 0)
    edit(parent, "train.lr=0.05")
    found = seed_scores(parent)
    assert [*found.scores] == [0, 1]
    (note,) = found.notes
    assert "has other settings by now than these seeds: train.lr 0.1 -> 0.05\nnext: cascade sweep" in note
    assert f"--run {parent} --seeds 0,1 trains them" in note


def test_seeds_of_other_settings_each_none_of_them_the_configs_are_refused(parent: Path) -> None:
    edit(parent, "train.lr=0.05")
    for found in (seed_scores, scores_of):
        with pytest.raises(RefusedError, match="are of other settings each") as error:
            found(parent)
        assert "beside seed 0: seed 1: train.lr 1e-06 -> 0.1\nnext: cascade sweep" in str(error.value)


def test_another_ensemble_is_another_setting(parent: Path) -> None:
    swept(parent, 0)
    edit(seed_folder(parent, 0), "evaluate.ensemble=softmax")
    assert seed_scores(parent).notes == ["left out, of other settings: seed 0: evaluate.ensemble logits -> softmax"]


def test_what_cannot_be_told_of_a_seed_is_said_and_the_others_count(parent: Path) -> None:
    for seed in (3, 97):
        shutil.copytree(seed_folder(parent, 1), seed_folder(parent, seed), symlinks=True)
    (seed_folder(parent, 3) / "cascade.toml").unlink()
    for seed, text in ((5, "not toml"), (6, 'wdth = "8"')):
        seed_folder(parent, seed).mkdir()
        (seed_folder(parent, seed) / "cascade.toml").write_text(text)
    (parent / "seeds" / "8").symlink_to(seed_folder(parent, 1))
    found = seed_scores(parent)
    assert [*found.scores] == [1]
    notes = "\n".join(found.notes)
    assert f"seed 3 is left out: {seed_folder(parent, 3)} has no cascade.toml\nnext: cascade sweep --run" in notes
    assert "97/cascade.toml has seed = 1, as a copy would\nnext: move it away, or cascade sweep" in notes
    assert "seed 5 is left out" in notes
    assert "seed 6 is left out" in notes
    assert f"next: cascade sweep --run {parent} --seeds 6, which writes its config anew" in notes
    assert "seed 8 is left out" in notes


def test_sweep_and_compare_say_it(parent: Path, tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    code, out, _ = cascade("sweep", "--run", parent)
    assert (code, "1: 1" in out, f"seed 0: {CHANGE}" in out) == (0, True, True)
    code, out, _ = cascade("compare", parent, seed_folder(parent, 1))
    assert (code, f"A: left out, of other settings: seed 0: {CHANGE}" in out) == (0, True)
    (seed_folder(parent, 0) / "cascade.toml").write_text("junk")
    swept(parent, 1)
    assert cascade("compare", parent, parent)[0] == 0


def test_a_folder_whose_seeds_have_nothing_trained_counts_itself(trained: Path, tmp_path: Path) -> None:
    alone = parent_of_seeds(tmp_path / "alone")
    shutil.copytree(trained / "x_0", alone / "x_0")
    with pytest.raises(RefusedError, match=r"nothing is trained in .*\nnext: cascade run --run"):
        scores_of(alone)
    run_stages(reopened(alone), None, None, "cpu", Reporter())
    shutil.copytree(seed_folder(trained, 1), seed_folder(alone, 1), symlinks=True)
    shutil.rmtree(seed_folder(alone, 1) / "stages")
    found = scores_of(alone)
    assert [one.path for one in found.scores.values()] == [alone]
    assert found.notes == ["seed 1: nothing is trained with the settings of its config"]
    with pytest.raises(RefusedError, match="no seed is trained in"):
        seed_scores(alone)
    assert found.scores[0].test == scored(alone).test
