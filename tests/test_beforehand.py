"""What does not fit is refused before an image is read, by plan and run alike."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.presets import write_preset
from tests.conftest import Outcome
from tests.runs import SMALL
from tests.test_plan import made_up_rates


@pytest.mark.parametrize("keep", ["auto", "all"])
@pytest.mark.parametrize(
    ("setting", "code", "message"),
    [
        ('budget.host="10 KB"', 6, "reading x_"),
        ('budget.device="10 KB"', 6, "of device memory"),
        ("machine.micro_batch=48", 2, "next: leave machine.micro_batch out"),
    ],
)
def test_what_will_not_fit_is_refused_before_the_ingest(
    tmp_path: Path,
    cascade: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    keep: str,
    setting: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr("pipeline.planning.rates_of", lambda *_, **__: made_up_rates(3))
    write_preset("digits", tmp_path / "run", [*SMALL, f"cache.keep={keep}"])
    answers = [
        cascade(command, "--run", tmp_path / "run", "--device", "cpu", "--set", setting) for command in ("run", "plan")
    ]
    assert [(answer[0], message in answer[2]) for answer in answers] == [(code, True)] * 2
    assert not (tmp_path / "run" / "x_0").exists()
