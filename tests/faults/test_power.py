import pytest

from tests.faults.conftest import told
from tests.faults.lab import Lab
from tests.faults.power import power_cuts
from tests.faults.protocol import breaches

IN_THE_END = "after the last call"


def test_calls_come_in_the_order_of_the_protocol(lab: Lab) -> None:
    assert [what for what in breaches(lab.template, lab.events) if IN_THE_END not in what] == []


def test_a_run_that_ended_is_durable(lab: Lab) -> None:
    assert [what for what in breaches(lab.template, lab.events) if IN_THE_END in what] == []


def test_a_power_cut_costs_time_and_nothing_else(lab: Lab) -> None:
    assert not told(power_cuts(lab, count=10).run(lab))


@pytest.mark.long
def test_a_power_cut_at_every_call_costs_time_and_nothing_else(lab: Lab) -> None:
    assert not told(power_cuts(lab).run(lab))
