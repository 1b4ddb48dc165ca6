from collections import Counter

import pytest

from tests.faults.conftest import told
from tests.faults.lab import Lab
from tests.faults.parts import part
from tests.faults.syscalls import Kind
from tests.faults.tracing import SYSTEM_CALLS, calls, has_strace, injections

pytestmark = pytest.mark.skipif(not has_strace(), reason="there is no strace")


@pytest.mark.parametrize("kind", ["kill", "full", "io"])
@pytest.mark.parametrize("name", ["write-back", "checkpoint"])
def test_a_fault_in_a_system_call_is_told_and_the_same_command_goes_on(lab: Lab, name: str, kind: Kind) -> None:
    assert not told(injections(part(lab, name), kind, count=4).run(lab))


@pytest.mark.parametrize("name", ["run", "write-back", "checkpoint", "gc", "repair"])
def test_every_call_that_strace_sees_is_seen(lab: Lab, name: str) -> None:
    broken = part(lab, name)
    names = {call: op for op, known in SYSTEM_CALLS.items() for call in known.split(",") if call != "unlinkat"}
    traced = Counter(
        ("rmdir" if "AT_REMOVEDIR" in rest else "unlink") if call == "unlinkat" else names.get(call, call)
        for call, rest in calls(lab.bench, broken)
    )
    assert Counter(event.op for event in broken.events) == traced


@pytest.mark.long
@pytest.mark.parametrize("kind", ["kill", "full", "io"])
@pytest.mark.parametrize("name", ["write-back", "checkpoint"])
def test_a_fault_in_every_system_call_is_told_and_the_same_command_goes_on(lab: Lab, name: str, kind: Kind) -> None:
    assert not told(injections(part(lab, name), kind).run(lab))
