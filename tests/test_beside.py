"""What a run folder holds beside its stores counts in the budget that a plan is made for, and the run that follows it
stays within."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cache import CodecChoice
from pipeline import disk
from pipeline.alternatives import Alternative, alternatives
from pipeline.beside import CHECKPOINTS, stage_bytes
from pipeline.disk import folder_bytes, run_bytes
from pipeline.errors import NoRoomError
from pipeline.plan import PLAN, read_plan
from pipeline.progress import size
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from pipeline.training import train_stage
from tests.conftest import Outcome
from tests.runs import digits_run, reopened
from tests.test_plan import made_up_rates

SETTINGS = (
    "cache.keep=auto",
    "network.stages=6",
    "network.downsample_at=[2,4]",
    "train.epochs=1",
    "augment.policy=none",
    "store.codec=none",
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Ingested, of six stages, on a machine for which every store is worth its bytes."""
    monkeypatch.setattr("pipeline.planning.rates_of", lambda *_, **__: made_up_rates(6))
    return digits_run(tmp_path / "run", *SETTINGS)


def stored(run: RunFolder) -> list[int]:
    return [i for i in range(1, len(run.stages)) if reopened(run.path).is_stored(i)]


@pytest.mark.parametrize("budget", [1_450_000, 1_500_000, 2_600_000, 3_300_000, 4_200_000, 5_000_000])
def test_a_plan_is_never_refused_by_the_run_that_follows_it(
    run: RunFolder, cascade: Callable[..., Outcome], budget: int
) -> None:
    code, _, err = cascade("run", "--run", run.path, "--disk", budget)
    assert code == 0, err
    assert "going on without" not in err
    plan = read_plan(run.path)
    assert plan is not None
    assert plan.peak_bytes + plan.beside_bytes <= budget
    assert folder_bytes(run.path) <= budget
    assert cascade("run", "--run", run.path, "--disk", budget)[0] == 0


def test_what_a_stage_keeps_is_known_before_it_trains(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    assert cascade("run", "--run", run.path, "--set", "cache.keep=none", "--to", 2)[0] == 0
    for j in range(3):
        own, said = folder_bytes(run.stages[j].path), stage_bytes(run.outline, j)
        assert own <= said.kept <= own + 12_000
        assert said.checkpoints > CHECKPOINTS * run.stages[j].head.stat().st_size


def test_stores_without_room_in_a_smaller_budget_go_first(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    assert cascade("run", "--run", run.path, "--to", 2, "--disk", "6 MB")[0] == 0
    assert stored(run) == [1]
    code, _, err = cascade("run", "--run", run.path, "--disk", "1.5 MB")
    assert code == 0, err
    assert "x_1 deleted" in err
    assert folder_bytes(run.path) <= 1_500_000


def test_a_store_that_is_refused_all_the_same_is_gone_on_without(
    run: RunFolder, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(run: RunFolder, j: int, *_: object) -> None:
        if j == 1:
            raise NoRoomError("stage 1 is trained and kept, and x_2 needs 2 MB\nnext: less")

    monkeypatch.setattr("pipeline.writeback.check_output_room", refused)
    code, _, err = cascade("run", "--run", run.path)
    assert code == 0, err
    assert "x_2 needs 2 MB; going on without x_2, by a new plan: stores x_1, " in err
    assert 2 not in stored(run)
    assert reopened(run.path).stages[5].record is not None


def test_a_store_of_a_plan_that_was_made_on_the_way_may_be_refused_too(
    run: RunFolder, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refused_again(run: RunFolder, j: int, *arguments: Any, **options: Any) -> bool:
        asked.append(j)
        if asked.count(1) == 2 and j == 1:
            raise NoRoomError("stage 1 is trained and kept, and x_2 needs 2 MB\nnext: less")
        return train_stage(run, j, *arguments, **options)

    monkeypatch.setattr("pipeline.runs.train_stage", refused_again)
    code, _, err = cascade("run", "--run", run.path)
    assert code == 0, err
    assert "x_2 needs 2 MB; going on without x_2, by a new plan: " in err
    assert reopened(run.path).stages[5].record is not None


def test_a_folder_over_its_budget_is_said_to_be(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    keep = ("--set", "cache.keep=[1]")
    assert cascade("run", "--run", run.path, "--to", 0, *keep)[0] == 0
    there = folder_bytes(run.path)
    _, _, err = cascade("run", "--run", run.path, "--to", 0, *keep, "--disk", there - 10_000)
    assert "more than budget.disk" in err
    assert "raise budget.disk" in err


def test_status_says_that_a_folder_is_over_its_budget_and_what_to_do(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    def said(*settings: str) -> tuple[str, Any]:
        options = ("--run", run.path, *(word for one in settings for word in ("--set", one)))
        out = cascade("status", *options)[1]
        return out, msgspec.json.decode(cascade("status", *options, "--json")[1])["over_budget"]

    there = run_bytes(run.path)
    for settings in ((), (f"budget.disk={there}",)):
        out, over = said(*settings)
        assert ("more than budget.disk" in out, over) == (False, None)
    out, over = said("budget.disk=10 KB")
    assert f"{run.path} takes {size(there)}, {size(there - 10_000)} more than budget.disk, 10.0 KB\n" in out
    assert out.endswith("next: raise budget.disk\n"), "gc would list nothing"
    assert (over["nbytes"], over["budget_bytes"], over["next"]) == (there, 10_000, "raise budget.disk")
    assert over["reason"] in out
    (run.path / ".disk-speed").write_bytes(bytes(1000))
    assert said("budget.disk=10 KB")[0].endswith("lists what can be freed, 1.0 KB; or raise budget.disk\n")


def test_gc_is_advised_only_where_it_frees_something(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    def advice(*command: object) -> str:
        code, _, err = cascade(*command, "--run", run.path, "--disk", "10 KB")
        assert code == 6, err
        return err.partition("next: ")[2]

    assert cascade("run", "--run", run.path, "--set", "cache.keep=none")[0] == 0
    commands = (("plan",), ("baseline",))
    assert ["cascade gc" in advice(*command) for command in commands] == [False, False]
    (run.path / ".disk-speed").write_bytes(bytes(1000))
    said = [advice(*command) for command in commands]
    assert all(one.startswith(f"cascade gc --run {run.path}") for one in said)
    assert all(" lists what can be freed, 1.0 KB; or " in one for one in said)


def test_a_plan_of_another_format_is_made_again(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    class Earlier(msgspec.Struct):
        anchors: list[int]

    write_sealed(run.path / PLAN, Earlier([0]))
    assert read_plan(run.path) is None
    assert cascade("plan", "--run", run.path)[0] == 0
    assert read_plan(run.path) is not None


@pytest.fixture
def sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The same with a codec, on images of which little is left."""
    monkeypatch.setattr("pipeline.planning.rates_of", lambda *_, **__: made_up_rates(6))
    return digits_run(tmp_path / "run", *SETTINGS[:-1], "store.codec=zstd")


def test_a_sample_that_shows_more_room_changes_the_plan_on_the_way(
    sampled: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    code, _, err = cascade("run", "--run", sampled.path, "--disk", "2.2 MB")
    assert code == 0, err
    assert "planned anew after stage " in err
    assert folder_bytes(sampled.path) <= 2_200_000


def test_a_plan_that_is_made_on_the_way_keeps_the_alternatives_that_were_said(
    sampled: RunFolder, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    worked_out: list[list[Alternative]] = []

    def watched(*arguments: Any) -> list[Alternative]:
        worked_out.append(list(alternatives(*arguments)))
        return worked_out[-1]

    monkeypatch.setattr("pipeline.plan.alternatives", watched)
    code, _, err = cascade("run", "--run", sampled.path, "--disk", "2.2 MB")
    assert code == 0, err
    assert "planned anew after stage " in err
    kept = read_plan(sampled.path)
    assert kept is not None
    assert [kept.alternatives] == worked_out


def test_the_codec_of_a_stage_is_said_once_where_a_sample_of_it_was_taken_too(
    sampled: RunFolder, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = CodecChoice("zstd", "measured", "as made up")
    monkeypatch.setattr("pipeline.writeback.choose_codec", lambda *_, **__: choice)
    code, _, err = cascade("run", "--run", sampled.path, "--disk", "2.2 MB", "--set", "store.codec=auto")
    assert code == 0, err
    assert "planned anew after stage " in err
    assert [err.count(f"stage {j}  codec zstd") for j in range(6)] == [
        err.count(f"x_{j + 1} written:") for j in range(6)
    ]


def test_blocks_of_the_file_system_count_against_the_disk_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(free: int, budget: int) -> None:
        monkeypatch.setattr(disk, "free_bytes", lambda _: free)
        needed = disk.StoreSize(1000, 3, rest=100)
        disk.check_room(
            "x_1", tmp_path, needed, lambda: "none", lambda: pytest.fail("asked"), budget=budget, remedy=lambda: "less"
        )

    check(10**6, 1100)
    with pytest.raises(NoRoomError, match=r"x_1 needs 1\.1 KB"):
        check(10**6, 1099)
    with pytest.raises(NoRoomError, match="are free on the disk"):
        check(5000, 10**6)
