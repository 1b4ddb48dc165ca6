"""What real training steps took of devices' memory beside what is predicted, as a run folder keeps it.

A prediction counts what the code allocates; kernels take workspaces of their own. What a real step took more, or less,
is kept by what is trained, its micro-batch and the machine (`pipeline/measured_steps.py` measures it).
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.sealed import read_sealed, write_sealed

STEPS = "steps.json"
KEPT = 256
"""Steps that are kept, the newest first."""


class MeasuredStep(msgspec.Struct, frozen=True, kw_only=True):
    """A real training step."""

    machine: dict[str, Any]
    """The machine and its versions."""
    trained: str
    """Digest of what is trained: blocks, head and types."""
    micro_batch: int
    predicted_bytes: int
    """On the device at the peak of the step, what its kernels take beside not counted."""
    measured_bytes: int
    """The same as the device had it; where it had no room, what it was allowed."""

    @property
    def beside_bytes(self) -> int:
        """What it takes beside what is predicted; below zero where that is too much."""
        return self.measured_bytes - self.predicted_bytes


class MeasuredSteps(msgspec.Struct, frozen=True, kw_only=True):
    """steps.json."""

    format: int = 1
    """Of this file."""
    steps: list[MeasuredStep] = []
    """The newest first."""

    def of(self, machine: Mapping[str, Any], trained: str, micro_batch: int) -> MeasuredStep | None:
        """The step of a micro-batch, None where it was not measured."""
        return next((one for one in self._steps(machine, trained) if one.micro_batch == micro_batch), None)

    def beside(self, machine: Mapping[str, Any], trained: str, micro_batch: int) -> int | None:
        """Bytes beside what is predicted: as measured at that micro-batch or, where it was not, at the one that is
        nearest to it by its ratio; None where none was."""
        steps = self._steps(machine, trained)
        nearest = min(steps, key=lambda one: abs(math.log(one.micro_batch / micro_batch)), default=None)
        return nearest.beside_bytes if nearest else None

    def with_step(self, step: MeasuredStep) -> "MeasuredSteps":
        """With another, in place of an earlier one of the same."""
        same = self.of(step.machine, step.trained, step.micro_batch)
        others = [one for one in self.steps if one is not same]
        return MeasuredSteps(steps=[step, *others][:KEPT])

    def without(self, machine: Mapping[str, Any]) -> "MeasuredSteps":
        """Without all of a machine."""
        return MeasuredSteps(steps=[one for one in self.steps if one.machine != machine])

    def _steps(self, machine: Mapping[str, Any], trained: str) -> list[MeasuredStep]:
        return [one for one in self.steps if (one.trained, one.machine) == (trained, machine)]


NO_STEPS = MeasuredSteps()


def read_steps(folder: Path) -> MeasuredSteps:
    """What a run folder keeps. Raises CorruptDataError."""
    remedy = "delete it; cascade plan --measure measures again"
    return read_sealed(folder / STEPS, MeasuredSteps, remedy=remedy) or NO_STEPS


def write_steps(folder: Path, steps: MeasuredSteps) -> None:
    """Keep them in place of what was there."""
    write_sealed(folder / STEPS, steps)
