"""The first signal is a wish, the second an end."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline.stopping import StopSignals, never

PROGRAM = """
import sys, time
from pipeline.stopping import StopSignals
with StopSignals() as signals:
    print("ready", flush=True)
    while not signals():
        time.sleep(0.01)
    print(signals.received.name, signals.exit_code, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(number: signal.Signals, again: signal.Signals) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], text=True, start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, number)
        assert process.stdout.readline() == f"{number.name} {128 + number}\n"
        os.killpg(process.pid, again)
        assert process.wait(10) == -again
        assert f"{number.name}: stopping where the work can go on" in process.stderr.read()


def test_handlers_are_as_before_afterwards_and_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == signals._note
            assert not signals()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_nobody_stops_a_library() -> None:
    assert not never()
