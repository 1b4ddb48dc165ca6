"""Whose images a run folder has, and what is said where they are not there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.experiments.places import sweep_of
from pipeline.experiments.seeds import make_seed_folder, seed_folder
from pipeline.owner import images_again
from tests.conftest import Outcome
from tests.runs import tiny_run


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """With images, and a folder for seed 0 of a sweep."""
    run = tiny_run(tmp_path / "run")
    make_seed_folder(run.path, 0, [])
    return run.path


def test_a_seeds_folder_is_known_by_its_name_and_the_config_above(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep_of(seed_folder(parent, 0)) == parent
    assert [sweep_of(path) for path in (parent, parent / "seeds", parent / "seeds" / "07", parent / "x" / "0")] == [
        None
    ] * 4
    monkeypatch.chdir(seed_folder(parent, 0))
    assert sweep_of(Path()) == parent
    (parent / "cascade.toml").unlink()
    assert sweep_of(seed_folder(parent, 0)) is None


def test_a_seed_whose_link_is_gone_gets_it_back_and_no_images_of_its_own(
    parent: Path, cascade: Callable[..., Outcome]
) -> None:
    seed = seed_folder(parent, 0)
    (seed / "x_0").unlink()
    for command in ("ingest", "run", "status"):
        code, _, err = cascade(command, "--run", seed)
        said = f"is gone\nnext: cascade sweep --run {parent} --seeds 0, which puts it back"
        assert (code, said in err) == (3, True), command
        assert not (seed / "x_0").exists()
    assert cascade("sweep", "--run", parent, "--seeds", "0")[0] == 0
    assert (seed / "x_0").is_symlink()


def test_where_the_images_of_all_are_gone_they_are_ingested_above(
    parent: Path, cascade: Callable[..., Outcome]
) -> None:
    shutil.rmtree(parent / "x_0")
    for command in ("ingest", "run", "status"):
        code, _, err = cascade(command, "--run", seed_folder(parent, 0))
        assert (code, f"has no x_0 yet\nnext: cascade ingest --run {parent}\n" in err) == (3, True), command
    assert cascade("ingest", "--run", parent)[0] == 0
    assert cascade("status", "--run", seed_folder(parent, 0))[0] == 0


def test_a_link_that_leads_nowhere_is_not_ingested_over(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    run = tiny_run(tmp_path / "run")
    shutil.rmtree(run.path / "x_0")
    (run.path / "x_0").symlink_to("/nowhere/x_0")
    for command in ("ingest", "run"):
        code, _, err = cascade(command, "--run", run.path)
        assert (code, "x_0 is a link to /nowhere/x_0, where nothing is\nnext: put" in err) == (3, True), command


def test_images_are_made_again_where_they_are(parent: Path) -> None:
    assert images_again(parent) == f"delete {parent / 'x_0'} and ingest again"
    assert images_again(seed_folder(parent, 0)) == f"{images_again(parent)}: cascade ingest --run {parent}"
