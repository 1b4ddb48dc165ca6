from dataclasses import replace
from itertools import pairwise

import pytest

from tests.faults.conftest import told
from tests.faults.lab import Lab
from tests.faults.parts import OF_A_RUN, Part, part, whole_run
from tests.faults.sweep import Broken, campaign, points, sweep
from tests.faults.syscalls import Fault, Kind


@pytest.mark.parametrize(("kind", "twice", "count"), [("kill", False, 40), ("kill", True, 15), ("torn", False, 10)])
def test_a_kill_at_any_call_costs_time_and_nothing_else(lab: Lab, kind: Kind, twice: bool, count: int) -> None:
    report = sweep(whole_run(lab), kind, count=count, twice=twice).run(lab)
    assert not told(report)
    assert report.trials == count, "a kill in recovery comes at a call of the recovery"


def test_a_trial_whose_fault_never_comes_is_not_counted(lab: Lab) -> None:
    trials = [Broken(Fault("kill", at)) for at in (len(lab.events) // 2, 10 * len(lab.events))]
    report = campaign(whole_run(lab), "kill", trials).run(lab)
    assert (report.trials, report.failures, report.note) == (1, [], "1 more were never hit")


@pytest.mark.parametrize("name", ["ingest", "stage-0", "stage-2"])
def test_a_kill_around_a_rename_costs_time_and_nothing_else(lab: Lab, name: str) -> None:
    broken = part(lab, name)
    renames = [n for n, e in enumerate(broken.events) if e.op == "rename" and not e.path.endswith(".partial")]
    trials = [Broken(Fault("kill", at)) for number in renames for at in (number, number + 1)]
    assert not told(campaign(broken, "kill", trials).run(lab))


@pytest.mark.parametrize("kind", ["full", "io"])
def test_where_writing_fails_the_path_and_the_next_action_are_named(lab: Lab, kind: Kind) -> None:
    ours = [n for n in points(lab.events, kind) if lab.events[n].op == "write" and ".new" in lab.events[n].path]
    trials = [Broken(Fault(kind, number)) for number in ours[::4]]
    assert not told(campaign(whole_run(lab), kind, trials).run(lab))


@pytest.mark.parametrize("kind", ["full", "io"])
def test_a_call_that_fails_anywhere_is_told_and_the_same_command_goes_on(lab: Lab, kind: Kind) -> None:
    assert not told(sweep(whole_run(lab), kind, count=30).run(lab))


@pytest.mark.parametrize("name", ["ingest", "run", "gc", "repair"])
def test_a_name_that_was_not_made_durable_is_by_the_command_that_goes_on(lab: Lab, name: str) -> None:
    broken = part(lab, name)
    syncs = [n for n, e in enumerate(broken.events) if e.op == "fsync" and broken.events[n - 1].op == "rename"]
    names: tuple[str, ...] = ("x_0", "stage.json", "scale.uint8.json", "uint8.train.views-2/manifest.json", ".removed")
    names += ("c.0.0.0.0.0", "y/c.0", "/zarr.json", "x_2/uint8.validation")  # which repair puts in place
    trials = [Broken(Fault("io", n)) for n in syncs if broken.events[n - 1].to.endswith(names)]
    assert trials
    assert not told(campaign(broken, "io", trials).run(lab))


def test_an_interrupt_at_any_call_exits_130_and_the_same_command_goes_on(lab: Lab) -> None:
    assert not told(sweep(whole_run(lab), "interrupt", count=10).run(lab))


def test_sigterm_at_any_call_exits_143_and_the_same_command_goes_on(lab: Lab) -> None:
    assert not told(sweep(whole_run(lab), "terminate", count=10).run(lab))


@pytest.mark.long
@pytest.mark.parametrize("name", OF_A_RUN)
@pytest.mark.parametrize("kind", ["kill", "torn"])
def test_a_kill_at_every_call_costs_time_and_nothing_else(lab: Lab, kind: Kind, name: str) -> None:
    assert not told(sweep(part(lab, name), kind).run(lab))


@pytest.fixture(scope="module", params=["gc", "repair"])
def upkeep(lab: Lab, request: pytest.FixtureRequest) -> Part:
    """Commands that look after a run folder."""
    return part(lab, request.param)


@pytest.mark.parametrize(("twice", "count"), [(False, 8), (True, 4)])
def test_a_kill_anywhere_in_gc_or_repair_leaves_a_folder_that_is_sound_and_goes_on(
    lab: Lab, upkeep: Part, twice: bool, count: int
) -> None:
    assert not told(sweep(upkeep, "kill", count=count, twice=twice).run(lab))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["kill", "torn", "full", "io"])
def test_a_fault_at_every_call_of_gc_or_repair_leaves_a_folder_that_is_sound_and_goes_on(
    lab: Lab, upkeep: Part, kind: Kind
) -> None:
    assert not told(sweep(upkeep, kind).run(lab))


def test_the_commands_of_a_run_one_by_one_leave_what_it_leaves_at_once(lab: Lab) -> None:
    truths = [part(lab, name).truth for name in OF_A_RUN]
    assert truths[-1] == lab.truth
    for before, after in pairwise(truths):
        assert before.items() < after.items()


def test_a_run_that_goes_on_wrongly_is_found(lab: Lab) -> None:
    trial = Broken(Fault("kill", len(lab.events) // 2))
    run = whole_run(lab)
    assert not campaign(run, "kill", [trial]).run(lab).failures
    truth = dict(lab.truth)
    truth["stages/3"] = truth.pop("x_0/ingest.json")
    (failure,) = campaign(replace(run, truth=truth), "kill", [trial]).run(lab).failures
    assert failure.what == "stages/3 is missing; x_0/ingest.json is left over"
    assert failure.replay == f"python -m tests.faults sweep --parts run --kinds kill --at {len(lab.events) // 2}"


def test_a_damage_that_is_found_after_a_command_is_told(lab: Lab) -> None:
    repair = part(lab, "repair")
    broken = replace(repair, between=(("verify", (4,)),), afterwards=(("verify", (4,)),))
    (failure,) = campaign(broken, "kill", [Broken(Fault("kill", 0))]).run(lab).failures
    assert failure.what.startswith("verify exits 0: ")
