"""cascade sweep: a run folder a seed on one x_0, resumable, within one budget."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.beside import beside_bytes
from pipeline.config_file import load_config
from pipeline.disk import budgeted_folder, folder_bytes, room, run_bytes
from pipeline.errors import DiskError, Stopped
from pipeline.experiments.places import SEEDS, SUMMARY
from pipeline.experiments.scores import scored
from pipeline.experiments.seeds import seed_folder
from pipeline.experiments.summary import read_summary, summarise
from pipeline.experiments.sweep import sweep
from pipeline.gc import find_garbage
from pipeline.lock import lock_folder
from pipeline.metrics import read_metrics
from pipeline.plan import make_plan
from pipeline.planning import budgets_of
from pipeline.presets import write_preset
from pipeline.progress import Reporter, size
from pipeline.runfolder import RunFolder
from pipeline.runs import run_stages
from pipeline.workload import Budgets
from tests.conftest import Outcome
from tests.images import arrays, npz
from tests.runs import SMALL, TINY, bytes_of, reopened
from tests.test_plan import CPU, made_up_rates
from tests.trained import files_of


def parent_of_seeds(folder: Path, *settings: str) -> Path:
    """A run folder of two tiny stages, with nothing in it but its config."""
    folder.mkdir()
    source = npz(folder / "images.npz", **arrays(train=30))
    write_preset("digits", folder, [*SMALL, f"data.source={source}", *TINY, "train.epochs=1", *settings])
    return folder


def swept(parent: Path, *seeds: int, **options: object) -> None:
    sweep(parent, seeds, [], None, "cpu", Reporter(), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeds 0 and 1, trained, and not to be changed."""
    parent = parent_of_seeds(tmp_path_factory.mktemp("sweep") / "run")
    swept(parent, 0, 1)
    return parent


@pytest.fixture
def parent(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))


def test_a_seed_of_a_sweep_ends_in_the_bytes_of_a_run_with_that_seed(trained: Path, tmp_path: Path) -> None:
    alone = parent_of_seeds(tmp_path / "alone")
    shutil.copytree(trained / "x_0", alone / "x_0")
    run = reopened(alone, "seed=1")
    run_stages(run, None, None, "cpu", Reporter())
    of_sweep = reopened(seed_folder(trained, 1))
    for j in range(2):
        assert bytes_of(of_sweep, j) == bytes_of(run, j)


def test_the_summary_is_the_mean_and_deviation_of_what_each_seed_scored(trained: Path) -> None:
    summary = read_summary(trained)
    assert summary is not None
    assert summary.rows == summarise(trained).rows
    assert [row.what for row in summary.rows] == ["stage 0", "stage 1", "ensemble"]
    own = [scored(seed_folder(trained, seed)).test["stage 1"] for seed in (0, 1)]
    row = summary.rows[1]
    assert (row.seeds, row.test.n, row.test.mean) == ([0, 1], 2, sum(own) / 2)
    assert row.test.deviation == pytest.approx(abs(own[0] - own[1]) / 2**0.5)
    assert row.train is not None


def test_a_stage_has_the_training_accuracy_of_its_last_epoch_beside_its_test_accuracy(trained: Path) -> None:
    found, run = scored(seed_folder(trained, 1)), reopened(seed_folder(trained, 1))
    for j, stage in enumerate(run.stages):
        assert stage.record is not None
        assert found.train[f"stage {j}"] == read_metrics(stage)[-1].train_accuracy == stage.record.train_accuracy
        assert found.test[f"stage {j}"] == stage.record.test_accuracy
    assert found.train.values() != found.test.values()


def test_an_ensemble_is_only_of_seeds_that_are_trained_to_the_last_stage(parent: Path) -> None:
    def without_last_stage(seed: int) -> list[tuple[str, list[int]]]:
        shutil.rmtree(reopened(seed_folder(parent, seed)).stages[1].path)
        return [(row.what, row.seeds) for row in summarise(parent).rows]

    assert without_last_stage(1) == [("stage 0", [0, 1]), ("stage 1", [0]), ("ensemble", [0])]
    assert without_last_stage(0) == [("stage 0", [0, 1])]


def test_images_are_there_once_and_the_whole_can_move(trained: Path, parent: Path) -> None:
    assert (seed_folder(parent, 1) / "x_0").is_symlink()
    shutil.rmtree(parent / "x_0")
    shutil.copytree(trained / "x_0", parent / "x_0")
    assert summarise(parent).rows == summarise(trained).rows


def test_what_is_trained_is_not_trained_again(parent: Path) -> None:
    before = files_of(seed_folder(parent, 0) / "stages")
    swept(parent, 0, 1)
    assert files_of(seed_folder(parent, 0) / "stages") == before, "records hold times"


def test_a_stopped_sweep_goes_on_where_it_was(tmp_path: Path, trained: Path) -> None:
    parent = parent_of_seeds(tmp_path / "run")
    asked = 0

    def soon() -> bool:
        nonlocal asked
        asked += 1
        return asked > 40

    with pytest.raises(Stopped):
        swept(parent, 0, 1, should_stop=soon)
    assert read_summary(parent) is None
    swept(parent, 0, 1)
    found, whole = read_summary(parent), read_summary(trained)
    assert found is not None
    assert whole is not None
    assert found.rows == whole.rows


def test_a_disk_budget_is_of_all_seeds_together(parent: Path) -> None:
    (seed_folder(parent, 1) / "of_mine").write_bytes(bytes(300_000))
    with pytest.raises(DiskError, match="is of all seeds together, and others keep 4") as error:
        sweep(parent, [2], ["budget.disk=200 KB"], None, "cpu", Reporter())
    for seed in (0, 1):
        is_named = f"cascade gc --run {seed_folder(parent, seed)} lists" in str(error.value)
        assert is_named == bool(find_garbage(reopened(seed_folder(parent, seed))))
    sweep(parent, [2], ["budget.disk=2 MB"], None, "cpu", Reporter())
    assert "2 MB" not in (seed_folder(parent, 2) / "cascade.toml").read_text()


def test_a_seed_that_is_run_by_hand_shares_the_budget_with_the_others(
    parent: Path, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(seed_folder(parent, 1) / "stages")
    (seed_folder(parent, 0) / "of_mine").write_bytes(bytes(1_000_000))
    monkeypatch.chdir(seed_folder(parent, 1))
    there, here = run_bytes(parent), Path()
    assert run_bytes(here) == there > 1_000_000
    assert room(here, there + 1000) == 1000
    config = load_config(here, [f"budget.disk={there + 10**6}"])
    assert budgets_of(here, config).disk == there + 10**6
    run = RunFolder(here, config)
    assert 1_000_000 < beside_bytes(run, 2) < there + 10**6
    code, _, err = cascade("run", "--disk", there + 1000, "--set", "cache.keep=all")
    assert (code, f"of budget.disk, {size(there + 1000)} of all seeds of {parent} together" in err) == (6, True)
    with pytest.raises(DiskError, match=f"the disk budget is 1.0 KB of all seeds of {parent} together"):
        make_plan(run.outline, made_up_rates(2), Budgets(1000, 10**9), device=CPU, run=run)
    code, _, err = cascade("run", "--disk", 900_000, "--set", "cache.keep=none")
    assert code == 6
    assert f"more than there is of budget.disk, 900 KB of all seeds of {parent} together\n" in err
    assert cascade("run", "--set", "cache.keep=none")[0] == 0
    code, _, err = cascade("run", "--disk", 900_000, "--set", "cache.keep=none")
    assert code == 0, "nothing is to be done"
    assert re.search(f"{parent} takes .*, .* more than budget.disk, 900 KB of all seeds of {parent} together", err)


def test_images_elsewhere_and_a_folder_called_seeds_make_no_sweep(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / SEEDS / "1"
    folder.mkdir(parents=True)
    (folder / "x_0").symlink_to(trained / "x_0")
    assert budgeted_folder(folder) == folder
    assert run_bytes(folder) > folder_bytes(folder) + 1000
    assert budgeted_folder(seed_folder(trained, 1)) == trained.resolve()
    assert budgeted_folder(trained) == trained


def test_under_auto_a_trained_seed_leaves_no_store_that_nothing_reads(parent: Path) -> None:
    assert [one.kind for one in find_garbage(reopened(seed_folder(parent, 0)))] == ["store"] * 3
    sweep(parent, [0], ["cache.keep=auto"], None, "cpu", Reporter())
    assert find_garbage(reopened(seed_folder(parent, 0))) == []
    assert (seed_folder(parent, 1) / "stages").exists()


def test_a_sweep_holds_the_parent_and_each_seed(parent: Path, cascade: Callable[..., Outcome]) -> None:
    shutil.rmtree(seed_folder(parent, 1) / "stages")
    for held in (parent, seed_folder(parent, 1)):
        with lock_folder(held, "resting"):
            code, _, err = cascade("sweep", "--seeds", "1", "--run", parent)
        assert (code, f"{held} is in use" in err) == (5, True)


def test_a_seeds_repair_puts_shared_images_back_and_holds_the_parent_for_it(
    parent: Path, cascade: Callable[..., Outcome]
) -> None:
    damaged = parent / "x_0" / "train" / "y" / "c.0"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    with lock_folder(parent, "resting"):
        code, _, err = cascade("repair", "--run", seed_folder(parent, 1))
        assert (code, f"{parent} is in use" in err) == (5, True)
    assert cascade("repair", "--run", seed_folder(parent, 1))[0] == 0
    assert damaged.read_bytes() == whole


def test_the_command_prints_the_table_and_json(parent: Path, cascade: Callable[..., Outcome]) -> None:
    code, out, _ = cascade("sweep", "--run", parent)
    assert (code, "2: 0, 1" in out, "ensemble" in out) == (0, True, True)
    code, out, _ = cascade("sweep", "--run", parent, "--json")
    assert [row["test"]["n"] for row in json.loads(out)["rows"]] == [2, 2, 2]


def test_nothing_trained_says_what_to_type(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    parent = parent_of_seeds(tmp_path / "run")
    code, _, err = cascade("sweep", "--run", parent)
    assert (code, "next: cascade" in err) == (3, True)
    code, _, err = cascade("sweep", "--seeds", "4..0", "--run", parent)
    assert (code, "nothing lies between 4 and 0" in err) == (2, True)


def test_a_damaged_summary_is_noticed(parent: Path) -> None:
    path = parent / SEEDS / SUMMARY
    path.write_bytes(path.read_bytes().replace(b'"n": 2', b'"n": 9', 1))
    with pytest.raises(Exception, match="its content does not have its checksum"):
        read_summary(parent)


def test_a_sweep_trains_each_seeds_baseline_and_compares_it(parent: Path, cascade: Callable[..., Outcome]) -> None:
    code, out, _ = cascade("sweep", "--run", parent, "--seeds", "0..1", "--baseline", "--json")
    rows = {row["what"]: row for row in json.loads(out)["rows"]}
    assert (code, rows["end to end"]["seeds"], rows["end to end"]["train"]["n"]) == (0, [0, 1], 2)
    summary = read_summary(parent)
    assert summary is not None
    assert [one.what for one in summary.trainings if one.seed == 1] == ["stage 0", "stage 1", "end to end"]
    code, out, _ = cascade("compare", parent, "--json")
    found = {row["what"]: row for row in json.loads(out)["differences"]}
    assert (code, [*found]) == (0, ["stage 0", "stage 1", "ensemble"])
    assert (found["ensemble"]["seeds"], found["ensemble"]["a"]) == ([0, 1], rows["end to end"]["test"])
    assert found["ensemble"]["interval"] is not None
    code, _, err = cascade("sweep", "--run", parent, "--baseline")
    assert (code, "nothing is trained\nnext: --seeds" in err) == (2, True)


def test_a_summary_says_what_it_is_of(trained: Path) -> None:
    summary = read_summary(trained)
    assert summary is not None
    assert summary.config["train"]["lr"] == 0.1
    assert "seed" not in summary.config
    assert {(one.seed, one.what) for one in summary.trainings} == {(s, f"stage {j}") for s in (0, 1) for j in (0, 1)}
    assert all(one.machine["torch"] and one.device and one.key for one in summary.trainings)
    assert datetime.fromisoformat(summary.made).tzinfo is not None


def test_refits_are_rows_too(parent: Path, cascade: Callable[..., Outcome]) -> None:
    assert cascade("refit-last", "--head-width", "16", "--run", seed_folder(parent, 1))[0] == 0
    found = {row.what: row.seeds for row in summarise(parent).rows}
    assert found == {
        "stage 0": [0, 1],
        "stage 1": [0, 1],
        "ensemble": [0, 1],
        "last stage, head 16": [1],
        "ensemble, head 16": [1],
    }


@pytest.mark.parametrize("keep", ["all", "auto"])
def test_a_sweep_that_is_refused_makes_no_folder(tmp_path: Path, cascade: Callable[..., Outcome], keep: str) -> None:
    parent = parent_of_seeds(tmp_path / "run", f"cache.keep={keep}")
    for _ in range(2):  # before there are images, and after
        assert cascade("sweep", "--seeds", "0..1", "--to", "9", "--run", parent)[0] == 2
        assert not (parent / SEEDS).exists()
        cascade("ingest", "--run", parent)
    for options, code in (
        (("--disk", "1 KB"), 6),
        (("--set", "machine.micro_batch=5"), 2),
        (("--device", "nowhere"), 2),
    ):
        assert cascade("sweep", "--seeds", "0..1", *options, "--run", parent)[0] == code
        assert not (parent / SEEDS).exists()


def test_the_plan_is_said_in_full_once(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    parent = parent_of_seeds(tmp_path / "run", "cache.keep=auto")
    code, _, err = cascade("sweep", "--seeds", "0..2", "--run", parent)
    assert (code, err.count("all recomputed"), err.count("\nplan: ")) == (0, 1, 2)
