"""What a person sees: durations, sizes, and plain lines where there is no terminal."""

import io

import pytest
from rich.console import Console

from pipeline.progress import LINE_EVERY_SECONDS, Reporter, duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (45, "45 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (200, "3:20"),
        (3599, "59:59"),
        (3599.7, "1:00:00"),
        (7400, "2:03:20"),
        (360_000, "100:00:00"),
    ],
)
def test_durations_read_as_a_clock_from_a_minute_on(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (1500, "1.5 KB"),
        (99_499, "99.5 KB"),
        (99_500, "100 KB"),
        (999_499, "999 KB"),
        (999_500, "1.0 MB"),
        (8_388_608, "8.4 MB"),
        (1_500_000_000, "1.5 GB"),
        (4_100_000_000_000, "4.1 TB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes_have_two_or_three_figures_in_powers_of_1000(number: float, text: str) -> None:
    assert size(number) == text


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time, which passes when told to."""
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


@pytest.fixture
def plain() -> tuple[Reporter, io.StringIO]:
    """A reporter whose console is no terminal, 40 columns wide, and what it printed."""
    printed = io.StringIO()
    return Reporter(Console(file=printed, force_terminal=False, width=40, soft_wrap=True, highlight=False)), printed


@pytest.mark.parametrize(
    "message", ["x" * 200, "[bold]not markup[/bold]", "a :smile: is no emoji", "two\nlines", "3.14 'a'"]
)
def test_messages_are_printed_as_they_are(plain: tuple[Reporter, io.StringIO], message: str) -> None:
    reporter, printed = plain
    reporter.say(message)
    assert printed.getvalue() == f"{message}\n"


def test_messages_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().say("hello" * 40)
    assert capsys.readouterr() == ("", "hello" * 40 + "\n")


def test_a_short_task_prints_nothing(plain: tuple[Reporter, io.StringIO], clock: Clock) -> None:
    reporter, printed = plain
    with reporter.task("stage 0 epoch 1/2", 1000) as task:
        for done in range(0, 1000, 10):
            clock.now += LINE_EVERY_SECONDS / 200
            assert not task.wants_detail
            task.update(done, "detail")
    assert printed.getvalue() == ""


def test_a_long_task_prints_a_line_now_and_then(plain: tuple[Reporter, io.StringIO], clock: Clock) -> None:
    reporter, printed = plain
    with reporter.task("ingest train", 50_000) as task:
        for done in range(0, 50_000, 1000):
            clock.now += LINE_EVERY_SECONDS / 20
            task.update(done)
    assert printed.getvalue() == "ingest train: 19,000 of 50,000\ningest train: 39,000 of 50,000\n"


def test_detail_is_wanted_when_a_line_is_due_and_then_printed(
    plain: tuple[Reporter, io.StringIO], clock: Clock
) -> None:
    reporter, printed = plain
    with reporter.task("stage 0", 1000) as task:
        clock.now += LINE_EVERY_SECONDS
        assert task.wants_detail
        task.update(500, "2,000 images/s")
        assert not task.wants_detail
    assert printed.getvalue() == "stage 0: 500 of 1,000 2,000 images/s\n"


def test_on_a_terminal_a_live_line_shows_the_detail_and_goes_away() -> None:
    printed = io.StringIO()
    console = Console(file=printed, force_terminal=True, width=100)
    with Reporter(console).task("[stage 0]", 1000) as task:
        assert task.wants_detail
        task.update(500, "[2,000 images/s]")
    assert "[stage 0]" in printed.getvalue()
    assert "[2,000 images/s]" in printed.getvalue()
    assert printed.getvalue().endswith("\x1b[2K")
