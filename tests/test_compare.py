"""cascade compare: paired by seed, with intervals where there are pairs to take them from."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import RefusedError
from pipeline.experiments.compare import compared, compared_within, explained
from pipeline.experiments.scores import Scored, in_order
from pipeline.experiments.seedtables import comparison_table
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


def test_rows_without_any_difference_are_identical() -> None:
    assert {one.verdict for one in compared(A, A).differences} == {"identical"}
    found = compared(scores({0: [80, 90, 91]}), scores({0: [80, 90.5, 91]})).differences
    assert [one.verdict for one in found] == ["identical", "one pair: no interval", "identical"]


def test_what_differs_of_the_settings_is_listed() -> None:
    one, other = (
        {0: Scored(Path("0"), 0, "same", {"stage 0": 80.0}, {}, {"0": {"head.k": k, "train.lr": 0.1}})} for k in (1, 3)
    )
    found = compared(one, other)
    assert found.settings == ["head.k 1 -> 3"]
    assert "A -> B: head.k 1 -> 3" in comparison_table(found)
    assert "A -> B: the same settings" in comparison_table(compared(one, one))


def test_names_are_in_order() -> None:
    names = [
        "stage 0",
        "stage 2",
        "stage 10",
        "ensemble",
        "last stage, head 8",
        "ensemble, head 8",
        "last stage, head 512",
        "ensemble, head 512",
        "end to end",
    ]
    assert in_order(reversed(names)) == names


def test_all_that_a_sweep_trained_is_compared_with_one_of_it_paired_by_seed() -> None:
    whole = {seed: {**one.test, "end to end": one.test["stage 0"] + 1 + seed / 10} for seed, one in A.items()}
    found = compared_within({seed: replace(A[seed], test=test) for seed, test in whole.items()}, "end to end")
    assert [(one.what, one.against) for one in found.differences] == [
        (name, "end to end") for name in ("stage 0", "stage 1", "ensemble")
    ]
    assert [one.verdict for one in found.differences] == ["worse", "within noise", "within noise"]
    assert found.differences[0].difference == pytest.approx(-1.1)
    assert "end to end %" in comparison_table(found)
    better = compared_within(A, "stage 0").differences
    assert [one.what for one in better] == ["stage 1", "ensemble"]


def test_seeds_without_the_one_are_left_out_and_a_name_that_none_has_is_refused() -> None:
    some = {**A, 1: replace(A[1], test={**A[1].test, "end to end": 90.0})}
    found = compared_within(some, "end to end")
    assert (found.differences[0].seeds, found.notes) == ([1], ["left out, without end to end: seeds 0, 2"])
    with pytest.raises(
        RefusedError,
        match="called 'end to end': there is stage 0, stage 1, ensemble\nnext: cascade sweep --seeds 0,1,2 --baseline",
    ):
        compared_within(A, "end to end")


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
    assert found["settings"] == ["train.lr 0.1 -> 0.01"]
    code, _, err = cascade("compare", a)
    assert (code, "called 'end to end'" in err) == (3, True)
    code, out, _ = cascade("compare", a, "--against", "stage 0")
    assert (code, "stage 0 %" in out) == (0, True)
    code, _, err = cascade("compare", a, b, "--against", "stage 0")
    assert (code, "next: leave it out" in err) == (2, True)
    code, _, err = cascade("compare", a, tmp_path / "nowhere")
    assert (code, "is not a run folder" in err) == (2, True)
