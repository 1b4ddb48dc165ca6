"""A run whose stores are left to a plan makes one, says it and follows it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pipeline.budget import ring_bytes
from pipeline.disk import folder_bytes
from pipeline.feed import describe_input
from pipeline.plan import Plan, as_planned, read_plan
from pipeline.planning import outcomes
from pipeline.presets import write_preset
from pipeline.runfolder import RunFolder
from tests.conftest import Outcome
from tests.runs import SMALL, digits_run, reopened
from tests.test_plan import made_up_rates

SETTINGS = (
    "cache.keep=auto",
    "train.epochs=3",
    "augment.policy=none",
    "network.width=4",
    "head.width=4",
    "store.codec=none",
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Ingested, on a machine for which every store is worth its bytes."""
    monkeypatch.setattr("pipeline.planning.rates_of", lambda *_, **__: made_up_rates(3))
    return digits_run(tmp_path / "run", *SETTINGS)


def stored(run: RunFolder) -> list[int]:
    return [i for i in range(1, len(run.stages)) if reopened(run.path).is_stored(i)]


def test_with_room_for_all_that_saves_time_it_is_stored(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    code, _, err = cascade("run", "--run", run.path)
    assert code == 0
    assert "instead" in err, "the plan is said, and what else there was"
    assert stored(run) == [1, 2]


def test_with_less_room_than_any_store_takes_everything_is_recomputed(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    code, _, err = cascade("run", "--run", run.path, "--disk", "400 KB")
    assert code == 0, err
    assert stored(run) == []
    plan = read_plan(run.path)
    assert plan is not None
    assert plan.peak_bytes <= plan.disk_bytes == 400_000
    assert "was deleted" not in cascade("status", "--run", run.path)[1], "it was never to be there"


def test_with_room_for_two_neighbours_the_first_goes_when_the_second_is_there(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    assert cascade("run", "--run", run.path)[0] == 0
    sizes = {i: sum(run.stored_bytes(i, split) for split in run.splits) for i in (0, 1, 2)}
    assert stored(run) == [1, 2]
    followed = as_planned(run)
    assert not followed.frees
    assert [followed.config.keeps(j) for j in (1, 2)] == [True, True]
    assert read_plan(run.path).peak_bytes == pytest.approx(sum(sizes.values()), rel=0.05)  # type: ignore[union-attr]


def test_the_weights_do_not_depend_on_the_plan(run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]) -> None:
    other = digits_run(tmp_path / "other", *SETTINGS)
    assert cascade("run", "--run", run.path)[0] == 0
    assert cascade("run", "--run", other.path, "--disk", "400 KB")[0] == 0
    assert other.stages[2].block.read_bytes() == run.stages[2].block.read_bytes()


def test_a_device_that_is_too_small_is_refused_before_anything_is_trained(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    code, _, err = cascade("run", "--run", run.path, "--device-memory", "10 KB")
    assert code == 6
    assert "stage 0 needs at least" in err
    assert "raise budget.device" in err
    assert not list(run.path.glob("stages/*/*"))


def test_what_is_run_up_to_a_stage_is_planned_up_to_it(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    assert cascade("plan", "--run", run.path, "--to", 1)[0] == 0
    planned = read_plan(run.path)
    assert planned is not None
    assert ([stage.j for stage in planned.stages], planned.stores) == ([0, 1], [1])
    assert cascade("run", "--run", run.path, "--to", 1)[0] == 0
    followed = read_plan(run.path)
    assert followed is not None
    assert [(one.j, one.anchor, one.writes) for one in followed.stages] == [(0, 0, 1), (1, 1, None)]
    assert stored(run) == [1]


def test_what_a_run_in_two_goes_leaves_is_that_of_one(
    run: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    other = digits_run(tmp_path / "other", *SETTINGS)
    assert cascade("run", "--run", run.path)[0] == 0
    for arguments in (("--to", 1), ()):
        assert cascade("run", "--run", other.path, *arguments)[0] == 0
    assert stored(other) == stored(run) == [1, 2]
    assert other.stages[2].block.read_bytes() == run.stages[2].block.read_bytes()
    plan = read_plan(other.path)
    assert plan is not None
    assert [plan.prediction(other.config, j) is not None for j in range(3)] == [True] * 3, "before each was trained"
    beside = ("probe.train.epochs=1", "probe.samples=9", "baseline.head_width=4", "baseline.train.lr=0.5")
    also = [plan.prediction(reopened(other.path, one).config, j) for one in beside for j in range(3)]
    assert None not in also, "no stage is predicted under what is of probes and of the network end to end"
    assert plan.prediction(reopened(other.path, "train.epochs=9").config, 0) is None


def test_a_stage_trained_by_itself_writes_what_the_next_reads(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    for j in range(2):
        assert cascade("train-stage", "--run", run.path, "--j", j)[0] == 0
    assert stored(run) == [1, 2]


@pytest.mark.parametrize("last", [-1, 3])
def test_there_is_no_plan_up_to_a_stage_that_is_not(run: RunFolder, cascade: Callable[..., Outcome], last: int) -> None:
    for command in ("plan", "run"):
        code, _, err = cascade(command, "--run", run.path, "--to", last)
        assert code == 2
        assert f"j = {last}: the network has 3 stages, j from 0 to 2\nnext: " in err


def test_free_host_memory_is_read_once_a_command(
    run: RunFolder, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[int] = []

    def less_each_time() -> int:
        readings.append(2 * 10**9 if not readings else 0)
        return readings[-1]

    monkeypatch.setattr("pipeline.host.free_host_bytes", less_each_time)
    code, _, err = cascade("run", "--run", run.path, "--set", "budget.host=free")
    assert code == 0, err
    assert len(readings) == 1


@pytest.mark.parametrize("keep", ["all", "needed", "none", "[2]"])
def test_a_plan_of_stores_that_are_set_shows_what_the_run_does(
    run: RunFolder, cascade: Callable[..., Outcome], keep: str
) -> None:
    option = ("--run", run.path, "--set", f"cache.keep={keep}")
    code, out, _ = cascade("plan", *option)
    assert code == 0
    assert "cache.keep = auto" in out
    plan = read_plan(run.path)
    assert plan is not None
    assert plan.stores == {"all": [1, 2], "needed": [1, 2], "none": [], "[2]": [2]}[keep]
    assert [one.deletes for one in plan.stages] == ([None, 1, 2] if keep == "needed" else [None] * 3)
    err = cascade("run", *option)[2]
    inputs = [f"stage {one.j}: {describe_input(one.anchor, one.j)};" in err for one in plan.stages]
    assert inputs == [True] * 3, err
    assert stored(run) == ([] if keep == "needed" else plan.stores)


def test_what_is_asked_for_of_the_last_block_is_planned_as_it_is_written(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    option = ("--run", run.path, "--set", "cache.keep=[2,3]")
    bare = ("--run", run.path, "--set", "cache.keep=[2]")
    plans = [msgspec.json.decode(cascade("plan", *one, "--json")[1], type=Plan) for one in (option, bare)]
    with_last, without = plans
    last = with_last.stages[2]
    assert [(one.stages[2].writes, one.stages[2].writing_seconds > 0) for one in plans] == [(3, True), (None, False)]
    assert last.alive_bytes - without.stages[2].alive_bytes == last.written_bytes
    assert with_last.peak_bytes - without.peak_bytes == last.written_bytes
    of_scale = last.ending_seconds - without.stages[2].ending_seconds
    assert with_last.seconds - without.seconds == pytest.approx(last.writing_seconds + of_scale)
    assert [one.peak_bytes for one in with_last.alternatives] == [one.peak_bytes for one in without.alternatives]
    assert cascade("plan", *option, "--to", "1")[0] == 0
    assert read_plan(run.path).stages[-1].writes == 2  # type: ignore[union-attr]
    assert cascade("plan", *option)[0] == 0
    assert cascade("run", *option)[0] == 0
    stored = sum(run.stored_bytes(3, split) for split in run.splits)
    assert stored == pytest.approx(last.written_bytes, rel=0.002), "but for the name of the machine, which is made up"
    taken = folder_bytes(run.path)
    assert cascade("plan", *option)[0] == 0
    done = read_plan(run.path)
    assert done is not None
    assert (done.stages[2].writes, done.seconds) == (None, 0), "it is there"
    assert done.peak_bytes + done.beside_bytes >= taken - 10_000, "and counts"
    assert done.peak_bytes == pytest.approx(with_last.peak_bytes, rel=0.002), "among the stores, as before it was"
    assert done.stages[2].alive_bytes == pytest.approx(last.alive_bytes, rel=0.002)
    assert done.peak_bytes + done.beside_bytes - taken < min(40_000, stored), "and not beside them too"


def test_a_store_that_the_last_stage_of_a_plan_wrote_is_counted_once(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    option = ("--run", run.path, "--set", "cache.keep=all", "--to", "1")
    assert cascade("run", *option)[0] == 0
    assert cascade("plan", *option)[0] == 0
    plan, x_2 = read_plan(run.path), sum(run.stored_bytes(2, split) for split in run.splits)
    assert plan is not None
    counted = plan.peak_bytes + plan.beside_bytes - folder_bytes(run.path)
    assert 0 <= counted < min(60_000, x_2)


def test_a_store_that_the_host_cannot_read_is_refused_by_plan_and_run_where_it_is_to_be_kept(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    images, x_1 = (ring_bytes(run.outline, i, 64, hold=1) for i in (0, 1))
    options = ("--run", run.path, "--set", "cache.keep=all", "--host-memory", (images + x_1) // 2)
    answers = [cascade(command, *options) for command in ("plan", "run")]
    assert [(code, "reading x_1 takes" in err) for code, _, err in answers] == [(6, True)] * 2
    auto = cascade("plan", "--run", run.path, "--host-memory", (images + x_1) // 2)
    assert auto[0] == 0, "which does without it"


def test_what_was_predicted_of_other_settings_or_stores_is_not_compared(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    assert cascade("run", "--run", run.path)[0] == 0
    assert all(one.predicted for one in outcomes(run))
    found = msgspec.json.decode(cascade("status", "--run", run.path, "--json")[1])["plan"]
    assert found == msgspec.to_builtins(outcomes(run))
    assert [one["measured"]["j"] for one in found] == [0, 1, 2]
    assert all(one.predicted is None for one in outcomes(reopened(run.path, "cache.keep=all")))
    assert all(one.predicted is None for one in outcomes(reopened(run.path, "machine.threads=1")))
    assert "- / " in cascade("status", "--run", run.path, "--set", "machine.threads=1")[1]


@pytest.mark.parametrize("setting", ["train.lr=0.5", "cache.keep=all", "machine.threads=1"])
def test_a_plan_of_other_settings_leaves_what_was_predicted_of_what_is_trained(
    run: RunFolder, cascade: Callable[..., Outcome], setting: str
) -> None:
    assert cascade("run", "--run", run.path)[0] == 0
    before = outcomes(run)
    assert all(one.predicted for one in before)
    for settings in (("--set", setting), ("--set", setting, "--to", "0"), (), ("--set", "train.lr=0.2")):
        assert cascade("plan", "--run", run.path, *settings)[0] == 0
        assert outcomes(run) == before
    kept = read_plan(run.path)
    assert kept is not None
    assert len(kept.predicted) == 3, "and nothing of what was never trained"


def test_what_was_predicted_of_two_branches_stands_beside_each(run: RunFolder, cascade: Callable[..., Outcome]) -> None:
    assert cascade("run", "--run", run.path)[0] == 0
    for command in ("plan", "run"):
        options = ("--set", "train.epochs=1", "--set", "cache.keep=none")
        assert cascade(command, "--run", run.path, *options)[0] == 0
    for settings in ((), ("train.epochs=1", "cache.keep=none")):
        seen = reopened(run.path, *settings)
        said = [cascade("plan", "--run", run.path, *(word for one in settings for word in ("--set", one)))[1]]
        found = [one.predicted for one in outcomes(seen)]
        assert (len(found), all(found)) == (3, True)
        assert ["x_2 stored" in out for out in said] == [not settings]


def test_what_was_predicted_before_the_ingest_is_kept_too(
    tmp_path: Path, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.planning.rates_of", lambda *_, **__: made_up_rates(3))
    folder = tmp_path / "run"
    write_preset("digits", folder, [*SMALL, "cache.keep=all", "train.epochs=1"])
    assert cascade("plan", "--run", folder)[0] == 0
    assert cascade("run", "--run", folder)[0] == 0
    assert cascade("plan", "--run", folder, "--set", "train.lr=0.5")[0] == 0
    assert all(one.predicted for one in outcomes(reopened(folder)))


def test_a_plan_of_stores_that_were_set_is_not_followed_by_a_run_that_chooses(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    assert cascade("plan", "--run", run.path, "--set", "cache.keep=none")[0] == 0
    assert as_planned(run) is run


def test_a_disk_budget_that_the_disk_has_not_is_said(
    run: RunFolder, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.planning.free_bytes", lambda _: 5_000_000)
    said = "budget.disk is 1.5 TB, and this disk has no more than 5."
    assert said in cascade("plan", "--run", run.path, "--disk", "1.5TB")[2]
    assert "budget.disk is" not in cascade("plan", "--run", run.path, "--disk", "4 MB")[2]


def test_a_store_that_was_written_and_freed_is_not_shown_as_one_of_no_bytes(
    run: RunFolder, cascade: Callable[..., Outcome]
) -> None:
    for command in ("plan", "run"):
        assert cascade(command, "--run", run.path, "--set", "cache.keep=needed")[0] == 0
    out = cascade("status", "--run", run.path, "--set", "cache.keep=needed")[1].partition("predicted / measured\n")[2]
    assert out.splitlines()[0].split() == ["stage", "training", "images/s", "stored", "device"]
    assert "0 B" not in out
    assert [row.split(" / ")[2].endswith("B") for row in out.splitlines()[1:3]] == [True] * 2, "as it was predicted"
