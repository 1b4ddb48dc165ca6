import pytest

from tests.faults.conftest import told
from tests.faults.lab import Lab
from tests.faults.tracing import has_strace, injections


@pytest.mark.long
@pytest.mark.skipif(not has_strace(), reason="there is no strace")
def test_a_kill_in_a_system_call_costs_time_and_nothing_else(lab: Lab) -> None:
    assert not told(injections(lab, "kill", count=40).run(lab))
