import pytest

from tests.faults.again import second_signals
from tests.faults.conftest import told
from tests.faults.lab import Lab
from tests.faults.syscalls import Kind


@pytest.mark.parametrize("kind", ["interrupt", "terminate"])
def test_a_second_signal_ends_a_run_that_stops_at_once_and_the_same_command_goes_on(lab: Lab, kind: Kind) -> None:
    assert not told(second_signals(lab, kind, count=8).run(lab))
