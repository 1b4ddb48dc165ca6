"""Bugs planted in a copy of the tree, one at a time: the tests named with each must fail, or they prove nothing."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.faults.bugs import BUGS, Bug
from tests.faults.campaign import Failure, Report
from tests.faults.lab import ONE_THREAD, ROOT

LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "cascade-demo", "*.egg-info")
PASSED, FAILED = 0, 1
"""Exit codes of pytest; any other means that the tests were not run."""


def stale(root: Path, bugs: Iterable[Bug] = BUGS) -> list[str]:
    """Bugs that cannot be planted: their text is not, or not only once, in the file."""
    return [
        f"{bug.name}: {path} has the old text {count} times: {old!r}"
        for bug in bugs
        for path, old, _ in bug.edits
        if (count := (root / path).read_text().count(old) if (root / path).exists() else 0) != 1
    ]


def planted(bugs: Sequence[Bug] = BUGS) -> Report:
    """Plant each bug and run its tests, which first pass without it."""
    failures = [Failure(what, "python -m tests.faults plant") for what in stale(ROOT, bugs)]
    if failures:
        return Report("planted bugs", len(bugs), failures)
    with tempfile.TemporaryDirectory(prefix="planted-") as temporary:
        tree = shutil.copytree(ROOT, Path(temporary) / "tree", ignore=LEFT_OUT)
        tests = sorted({test for bug in bugs for test in bug.tests})
        if (code := _pytest(tree, tests)) != PASSED:
            failures.append(Failure(f"without any bug pytest exits {code}", f"pytest -m '' {' '.join(tests)}"))
        failures += [failure for bug in bugs for failure in _plant(tree, bug)]
    return Report("planted bugs", len(bugs), failures)


def _plant(tree: Path, bug: Bug) -> list[Failure]:
    """What of a bug its tests did not see."""
    before = {path: (tree / path).read_text() for path, _, _ in bug.edits}
    for path, old, new in bug.edits:
        (tree / path).write_text((tree / path).read_text().replace(old, new))
    codes = {test: _pytest(tree, [test]) for test in bug.tests}
    for path, text in before.items():
        (tree / path).write_text(text)
    print(f"{bug.name}: {sum(code == FAILED for code in codes.values())} of {len(codes)} tests fail", file=sys.stderr)
    return [
        Failure(f"{bug.name}: {test} exits {code}, not {FAILED}", f"python -m tests.faults plant --only {bug.name!r}")
        for test, code in codes.items()
        if code != FAILED
    ]


def _pytest(tree: Path, tests: Sequence[str]) -> int:
    command = [sys.executable, "-m", "pytest", "-x", "-m", "", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode
