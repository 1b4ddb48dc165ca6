"""How far the seeds of a sweep are."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.experiments.overview import beside
from pipeline.experiments.seeds import make_seed_folder, seed_folder
from pipeline.experiments.seedstates import described_seeds, seed_states
from pipeline.experiments.sweep import sweep
from pipeline.progress import Reporter
from tests.conftest import Outcome
from tests.runs import reopened, tiny_run


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seed 0 trained, seed 1 up to its first stage, seed 2 not at all."""
    parent = tiny_run(tmp_path_factory.mktemp("seeds") / "run", "cache.keep=all").path
    sweep(parent, [0], [], None, "cpu", Reporter())
    sweep(parent, [1], [], 0, "cpu", Reporter())
    make_seed_folder(parent, 2, [])
    return parent


def test_a_seed_is_done_begun_or_still_to_do(swept: Path) -> None:
    found = seed_states(swept)
    assert [(one.seed, one.state, one.trained, one.stages) for one in found] == [
        (0, "done", 2, 2),
        (1, "partial", 1, 2),
        (2, "todo", 0, 2),
    ]
    record = reopened(seed_folder(swept, 1)).stages[0].record
    assert record is not None
    assert found[1].test_accuracy == record.test_accuracy
    assert found[0].reason == ""
    assert found[1].reason.startswith("cascade train-stage --j 1 --run ")
    assert described_seeds(found) == "1 of 3 done; seed 1 is partial, 1 of 2 stages; seed 2 is todo, 0 of 2 stages"


def test_a_seed_of_other_settings_is_stale(swept: Path, tmp_path: Path) -> None:
    parent = Path(shutil.copytree(swept, tmp_path / "run", symlinks=True))
    make_seed_folder(parent, 0, ["train.lr=0.05"])
    assert seed_states(parent)[0].state == "stale"


def test_a_damaged_seed_ends_no_status(swept: Path, tmp_path: Path) -> None:
    parent = Path(shutil.copytree(swept, tmp_path / "run", symlinks=True))
    reopened(seed_folder(parent, 0)).stages[0].record_path.write_text("{}")
    damaged, *others = seed_states(parent)
    assert (damaged.state, "stage.json is damaged" in damaged.reason) == ("damaged", True)
    assert [one.state for one in others] == ["partial", "todo"]


def test_status_lists_them_in_its_table_and_its_json(swept: Path, cascade: Callable[..., Outcome]) -> None:
    (row,) = beside(reopened(swept))
    assert (row.kind, row.what, row.state) == ("seeds", "seeds 0, 1, 2", "begun")
    assert row.reason.startswith("1 of 3 done; seed 1 is partial")
    code, out, _ = cascade("status", "--run", swept, "--json")
    assert code == 0
    assert json.loads(out)["seeds"] == [asdict(one) for one in seed_states(swept)]
    assert "1 of 3 done" in cascade("status", "--run", swept)[1]
