import pytest

from tests.faults.conftest import told
from tests.faults.lab import Lab
from tests.faults.parts import OF_A_RUN, part, whole_run
from tests.faults.power import power_cuts, protocol
from tests.faults.protocol import breaches

IN_THE_END = "after the last call"


def test_calls_come_in_the_order_of_the_protocol(lab: Lab) -> None:
    assert [what for what in breaches(lab.template, lab.events) if IN_THE_END not in what] == []


def test_a_run_that_ended_is_durable(lab: Lab) -> None:
    assert [what for what in breaches(lab.template, lab.events) if IN_THE_END in what] == []


@pytest.mark.parametrize("name", ["ingest", "stage-1", "gc", "repair"])
def test_calls_of_a_command_come_in_the_order_of_the_protocol_and_are_durable(lab: Lab, name: str) -> None:
    assert not told(protocol(part(lab, name)))


def test_a_power_cut_costs_time_and_nothing_else(lab: Lab) -> None:
    assert not told(power_cuts(whole_run(lab), count=10).run(lab))


@pytest.mark.parametrize("name", ["gc", "repair"])
def test_a_power_cut_in_gc_or_repair_leaves_a_folder_that_is_sound_and_goes_on(lab: Lab, name: str) -> None:
    assert not told(power_cuts(part(lab, name), count=2).run(lab))


@pytest.mark.long
@pytest.mark.parametrize("name", [*OF_A_RUN, "gc", "repair"])
def test_a_power_cut_at_every_call_costs_time_and_nothing_else(lab: Lab, name: str) -> None:
    assert not told(power_cuts(part(lab, name)).run(lab))
