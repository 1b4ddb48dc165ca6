"""What a person sees while it works, on stderr: one live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LIVE_EVERY_SECONDS = 0.2
"""Between changes of the live line."""
LINE_EVERY_SECONDS = 30.0
"""Between plain lines within one task, so that a log shows life and is no flood."""


class Reporter:
    """Prints messages, and the progress of one task at a time."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, message: str) -> None:
        """A line that stays."""
        self.console.print(message, markup=False, emoji=False)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator["Task"]:
        """Show how far a task of `total` samples is while the context is open."""
        if not self.console.is_terminal:
            yield Task(self, name, total, None)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.fields[detail]}", markup=False),
        )
        with Progress(*columns, console=self.console, transient=True) as live:
            yield Task(self, name, total, live)


class Task:
    """One task's progress."""

    def __init__(self, reporter: Reporter, name: str, total: int, live: Progress | None) -> None:
        self._reporter = reporter
        self._name = name
        self._total = total
        self._live = live
        self._live_task = live.add_task(name, total=total, detail="") if live else None
        self._every_seconds = LIVE_EVERY_SECONDS if live else LINE_EVERY_SECONDS
        self._shown = float("-inf") if live else time.monotonic()

    @property
    def wants_detail(self) -> bool:
        """Whether an update would be shown now, so that its text is worth making."""
        return time.monotonic() - self._shown >= self._every_seconds

    def update(self, done: int, detail: str = "") -> None:
        """Say that `done` of the samples are done; shown if it is time to."""
        if not self.wants_detail:
            return
        self._shown = time.monotonic()
        if self._live is not None and self._live_task is not None:
            self._live.update(self._live_task, completed=done, detail=detail or f"{done:,} of {self._total:,}")
        else:
            self._reporter.say(f"{self._name}: {done:,} of {self._total:,} {detail}".rstrip())


def duration(seconds: float) -> str:
    """Seconds as "3.4 s", "45 s", "3:20" or "2:03:20"."""
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(number: float) -> str:
    """Bytes as "1.5 GB", in powers of 1000."""
    if number < 1000:
        return f"{number:.0f} B"
    for unit in ("KB", "MB", "GB", "TB"):
        number /= 1000
        if number < 999.5 or unit == "TB":
            break
    return f"{number:.1f} {unit}" if number < 99.5 else f"{number:.0f} {unit}"
