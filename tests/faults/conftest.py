from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.campaign import Report
from tests.faults.lab import Lab
from tests.faults.tiny import write_config


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def other(lab: Lab) -> Path:
    """A run of another seed."""
    run = lab.bench.place()
    write_config(run, lab.source, "seed=1")
    assert lab.bench.run(run).code == 0
    return run


def told(report: Report) -> str:
    """The failures of a campaign with their replays."""
    assert report.trials > 0, "nothing was tried"
    return "\n".join(f"{failure.what}\n    {failure.replay}" for failure in report.failures)
