"""SIGINT and SIGTERM as a wish, which whoever works looks at between two steps."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from pipeline.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def never() -> bool:
    """Nobody asks to stop."""
    return False


def check_stop(should_stop: Callable[[], bool], what: str) -> None:
    """Raise Stopped where somebody asks to, in the middle of `what`."""
    if should_stop():
        raise Stopped(f"stopped in {what}, before its end")


class StopSignals:
    """A context in which the first SIGINT or SIGTERM is only noted, and the next one ends the process at once.

    Called, it says whether one has come. Nothing is saved or printed through buffers inside the handler: it may
    interrupt whatever is half done. A signal that the process was started to ignore stays ignored.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """130 or 143, as a shell says that a process ended by a signal."""
        return 128 + (self.received or signal.SIGINT)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for other in self._before:
            signal.signal(other, signal.SIG_DFL)  # ends the process even where it waits outside of Python
        with suppress(OSError):
            os.write(
                2, f"\n{self.received.name}: stopping where the work can go on; a second one ends it at once\n".encode()
            )
