"""cascade compare: paired by seed, with intervals where there are pairs to take them from."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import RefusedError
from pipeline.experiments.compare import compared, explained
from pipeline.experiments.scores import Scored
from tests.conftest import Outcome
from tests.test_sweep import parent_of_seeds, swept


def scores(values: dict[int, list[float]], images: str = "same", stages: int = 2) -> dict[int, Scored]:
    """Made-up scores by seed: of each stage, and of the ensemble where all are trained."""
    names = [*(f"stage {j}" for j in range(stages)), "ensemble"]
    return {
        seed: Scored(Path(str(seed)), seed, images, dict(zip(names, found, strict=False)), {})
        for seed, found in values.items()
    }


A = scores({0: [80, 90, 91], 1: [82, 92, 93], 2: [84, 88, 89]})


def test_differences_are_paired_by_seed() -> None:
    b = scores({2: [85.1, 90, 88], 1: [83.0, 90, 94], 0: [80.9, 91, 92]})
    found = compared(A, b).differences
    assert [one.what for one in found] == ["stage 0", "stage 1", "ensemble"]
    assert found[0].difference == pytest.approx(1.0)  # 0.9, 1.0, 1.1: seeds differ by far more than that
    assert [one.verdict for one in found] == ["B better", "within noise", "within noise"]
    assert (found[0].a.mean, found[0].a.n, found[0].seeds) == (82, 3, [0, 1, 2])


def test_the_other_way_round_the_other_is_better() -> None:
    b = scores({0: [79, 0, 0], 1: [81.1, 0, 0], 2: [82.9, 0, 0]})
    assert compared(A, b).differences[0].verdict == "A better"


def test_only_seeds_that_both_have_count_and_the_others_are_named() -> None:
    found = compared(A, scores({1: [83, 93, 94], 2: [85, 89, 90], 7: [0, 0, 0]}))
    assert found.differences[0].a.mean == 83
    assert found.notes == ["A alone has seed 0, left out", "B alone has seed 7, left out"]


def test_two_single_runs_have_a_difference_and_no_interval() -> None:
    found = compared(scores({0: [80, 90, 91]}), scores({0: [81, 90, 91]}))
    assert (found.differences[0].difference, found.differences[0].interval) == (1, None)
    assert found.differences[0].verdict == "one pair: no interval"
    assert "nothing is known of the noise" in explained(found)


def test_two_single_runs_of_other_seeds_are_compared_and_not_called_paired() -> None:
    found = compared(scores({0: [80, 90, 91]}), scores({5: [81, 90, 91]}))
    assert found.differences[0].verdict == "other seeds, not paired: no interval"


def test_sweeps_without_a_common_seed_are_refused() -> None:
    with pytest.raises(RefusedError, match="no seed has both: A has seeds 0, 1, 2, B has seeds 3, 4\nnext: "):
        compared(A, scores({3: [1], 4: [1]}))


def test_stages_that_one_lacks_are_left_out_and_named() -> None:
    found = compared(A, scores({seed: [80.0] for seed in A}))
    assert [one.what for one in found.differences] == ["stage 0"]
    assert found.notes == ["A alone has stage 1, ensemble"]


def test_other_images_and_ensembles_of_other_depths_are_said() -> None:
    found = compared(A, scores({seed: [80, 90, 91, 92] for seed in A}, images="others", stages=3))
    assert any("not of the same images" in note for note in found.notes)
    assert "the ensembles are of other numbers of stages" in found.notes


def test_the_command_compares_sweeps_and_single_runs(tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    a, b = parent_of_seeds(tmp_path / "a"), parent_of_seeds(tmp_path / "b", "train.lr=0.01")
    for parent in (a, b):
        swept(parent, 0, 1)
    code, out, _ = cascade("compare", a, b, "--json")
    found = json.loads(out)
    assert (code, [row["a"]["n"] for row in found["differences"]]) == (0, [2, 2, 2])
    assert found["differences"][0]["interval"]["low"] <= found["differences"][0]["difference"]
    code, out, _ = cascade("compare", a / "seeds/0", b / "seeds/0")
    assert (code, "one pair: no interval" in out) == (0, True)
    code, _, err = cascade("compare", a, tmp_path / "nowhere")
    assert (code, "is not a run folder" in err) == (2, True)
