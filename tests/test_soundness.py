"""What experiments keep beside the stages: checked by verify."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.experiments.overview import beside
from pipeline.experiments.soundness import check_beside
from pipeline.gc import find_garbage
from pipeline.stopping import never
from tests.conftest import Outcome
from tests.runs import reopened
from tests.test_sweep import parent_of_seeds, swept


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed of a sweep, trained."""
    folder = parent_of_seeds(tmp_path_factory.mktemp("kept") / "run")
    swept(folder, 3)
    return folder


def test_a_run_without_experiments_has_nothing_to_say(parent: Path) -> None:
    run = reopened(parent / "seeds" / "3")
    assert (beside(run), list(check_beside(run, never))) == ([], [])


def test_status_names_the_seeds_and_what_says_their_scores(parent: Path, cascade: Callable[..., Outcome]) -> None:
    (row,) = beside(reopened(parent))
    said = f"1 of 1 done: cascade sweep --run {parent} says what they scored"
    assert (row.what, row.state, row.path, row.reason) == ("seeds 3", "done", f"{parent}/seeds", said)
    code, out, _ = cascade("status", "--run", parent)
    assert (code, "seeds 3" in out) == (0, True)


def test_verify_finds_a_damaged_summary_and_says_what_makes_it_again(
    parent: Path, cascade: Callable[..., Outcome]
) -> None:
    path = parent / "seeds" / "summary.json"
    assert cascade("verify", "--run", parent)[0] == 0
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"n": 1', b'"n": 9', 1))
    code, out, _ = cascade("verify", "--run", parent)
    path.write_bytes(data)
    assert (code, "seeds/summary.json" in out, "next: delete it; the next cascade sweep" in out) == (4, True, True)


def test_a_sweep_leaves_nothing_that_gc_would_take(parent: Path) -> None:
    assert find_garbage(reopened(parent)) == []
    (parent / "seeds" / ".summary.json.new").touch()
    (left,) = find_garbage(reopened(parent))
    left.path.unlink()
    assert left.kind == "leftover"


def test_verify_goes_through_the_seeds(parent: Path, tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    copy = shutil.copytree(parent, tmp_path / "run", symlinks=True)
    code, out, _ = cascade("verify", "--run", copy)
    assert (code, "seeds/3/stages/0-" in out, "seeds/3/x_0" in out) == (0, True, False)
    block = next((copy / "seeds" / "3" / "stages").glob("0-*/block.safetensors"))
    data = bytearray(block.read_bytes())
    data[-1] ^= 1
    block.write_bytes(data)
    code, out, _ = cascade("verify", "--run", copy)
    assert (code, f"{block.relative_to(copy).parent}:" in out) == (4, True)
    (copy / "seeds" / "3" / "cascade.toml").write_text("junk")
    code, out, _ = cascade("verify", "--run", copy)
    assert (code, "not checked" in out, "--seeds 3, which writes its config anew" in out) == (4, True, True)


def test_evaluate_of_a_sweeps_folder_points_to_its_seeds(parent: Path, cascade: Callable[..., Outcome]) -> None:
    code, _, err = cascade("evaluate", "--run", parent)
    assert (code, f"whose sweep has seed 3\nnext: cascade sweep --run {parent} says" in err) == (3, True)
