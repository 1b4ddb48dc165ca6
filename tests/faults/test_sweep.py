import pytest

from tests.faults.conftest import told
from tests.faults.lab import Lab
from tests.faults.sweep import Broken, campaign, points, sweep
from tests.faults.syscalls import Fault, Kind


@pytest.mark.parametrize(("kind", "twice", "count"), [("kill", False, 40), ("kill", True, 15), ("torn", False, 10)])
def test_a_kill_at_any_call_costs_time_and_nothing_else(lab: Lab, kind: Kind, twice: bool, count: int) -> None:
    assert not told(sweep(lab, kind, count=count, twice=twice).run(lab))


def test_a_kill_around_a_rename_costs_time_and_nothing_else(lab: Lab) -> None:
    renames = [n for n, e in enumerate(lab.events) if e.op == "rename" and not e.path.endswith(".partial")]
    points = [at for number in renames for at in (number, number + 1) if at not in behind_records(lab)]
    assert not told(campaign(lab, "kill", [Broken(Fault("kill", at)) for at in points]).run(lab))


def behind_records(lab: Lab) -> list[int]:
    """Calls that follow the renaming of a stage's record."""
    return [n + 1 for n, event in enumerate(lab.events) if event.to.endswith("/stage.json")]


def test_a_checkpoint_that_a_kill_left_beside_the_record_is_swept(lab: Lab) -> None:
    trials = [Broken(Fault("kill", at)) for at in behind_records(lab)]
    assert not told(campaign(lab, "kill", trials).run(lab))


@pytest.mark.parametrize("kind", ["full", "io"])
def test_where_writing_fails_the_path_and_the_next_action_are_named(lab: Lab, kind: Kind) -> None:
    ours = [n for n in points(lab.events, kind) if lab.events[n].op == "write" and ".new" in lab.events[n].path]
    trials = [Broken(Fault(kind, number)) for number in ours[::4]]
    assert not told(campaign(lab, kind, trials).run(lab))


@pytest.mark.parametrize("kind", ["full", "io"])
def test_a_call_that_fails_anywhere_is_told_and_the_same_command_goes_on(lab: Lab, kind: Kind) -> None:
    assert not told(sweep(lab, kind, count=30).run(lab))


def test_an_interrupt_at_any_call_exits_130_and_the_same_command_goes_on(lab: Lab) -> None:
    assert not told(sweep(lab, "interrupt", count=10).run(lab))


def test_sigterm_at_any_call_exits_143_and_the_same_command_goes_on(lab: Lab) -> None:
    assert not told(sweep(lab, "terminate", count=10).run(lab))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["kill", "torn"])
def test_a_kill_at_every_call_costs_time_and_nothing_else(lab: Lab, kind: Kind) -> None:
    assert not told(sweep(lab, kind).run(lab))


def test_a_run_that_goes_on_wrongly_is_found(lab: Lab) -> None:
    trial = Broken(Fault("kill", len(lab.events) // 2))
    report = campaign(lab, "kill", [trial]).run(lab)
    assert not report.failures
    truth = dict(lab.truth)
    lab.truth["stages/3"] = lab.truth.pop("x_0/ingest.json")
    try:
        (failure,) = campaign(lab, "kill", [trial]).run(lab).failures
    finally:
        lab.truth = truth
    assert failure.what == "stages/3 is missing; x_0/ingest.json is left over"
    assert failure.replay == f"python -m tests.faults sweep --kinds kill --at {len(lab.events) // 2}"
