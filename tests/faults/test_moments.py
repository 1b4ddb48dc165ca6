from tests.faults.conftest import told
from tests.faults.lab import Lab
from tests.faults.moments import random_signals


def test_kills_at_random_moments_cost_time_and_nothing_else(lab: Lab) -> None:
    report = random_signals(lab, "kill", count=12).run(lab)
    assert not told(report)
    assert report.trials >= 6, report.note


def test_interrupts_at_random_moments_exit_130_and_the_same_command_goes_on(lab: Lab) -> None:
    assert not told(random_signals(lab, "interrupt", count=6).run(lab))


def test_sigterm_at_random_moments_exits_143_and_the_same_command_goes_on(lab: Lab) -> None:
    assert not told(random_signals(lab, "terminate", count=6).run(lab))
