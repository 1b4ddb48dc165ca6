from pathlib import Path

import pytest

from tests.faults.bugs import BUGS, Bug
from tests.faults.conftest import told
from tests.faults.lab import ROOT
from tests.faults.planted import planted, stale


def test_every_bug_can_still_be_planted() -> None:
    assert stale(ROOT) == []
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20


def test_a_bug_whose_text_is_gone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("once\ntwice twice\n")
    gone = Bug("gone", (("a.py", "never", ""), ("a.py", "twice", ""), ("b.py", "once", ""), ("a.py", "once", "")), ())
    assert [line.rsplit(": ", 1)[0] for line in stale(tmp_path, [gone])] == [
        "gone: a.py has the old text 0 times",
        "gone: a.py has the old text 2 times",
        "gone: b.py has the old text 0 times",
    ]


@pytest.mark.long
def test_every_planted_bug_is_seen_by_the_tests_named_with_it() -> None:
    assert not told(planted())
