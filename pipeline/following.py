"""A run whose stores are left to a plan: which it follows, and how it goes on when that turns out otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pipeline.alternatives import Alternative
from pipeline.errors import NoRoomError, first_line
from pipeline.lock import Lock
from pipeline.plan import Plan
from pipeline.planning import plan_run
from pipeline.plantable import plan_table
from pipeline.progress import Reporter, duration
from pipeline.runfolder import RunFolder


@dataclass
class Following:
    """The plan of a run, made before it trains and again when more is known."""

    asked: RunFolder
    """As the config has it, its stores left to a plan."""
    device: torch.device
    report: Reporter
    lock: Lock
    plan_to: int | None
    """The last stage that is planned; None for all."""
    is_brief: bool = False
    """Whether the plan is said in a line, and no alternatives are worked out: of another seed of a sweep they would be
    much the same."""
    refused: set[int] = field(default_factory=set)
    """Indices of x_i that the disk had no room for after all."""
    plan: Plan | None = None

    def begin(self) -> RunFolder:
        """The run with the stores of a plan, which is said."""
        self.plan = self._planned()
        if self.is_brief:
            self.report.say(f"plan: {_stores(self.plan)}; {duration(self.plan.seconds)}")
        else:
            self.report.say(plan_table(self.plan))
        return self.plan.followed(self.asked)

    def without(self, index: int, error: NoRoomError) -> RunFolder:
        """The run with the stores of a new plan, since x_index was refused."""
        self.refused.add(index)
        self.plan = self._planned()
        self.report.say(f"{first_line(error)}; going on without x_{index}, by a new plan: {_stores(self.plan)}")
        return self.plan.followed(self.asked)

    def again(self, run: RunFolder, j: int) -> RunFolder:
        """The run with the stores of a new plan, where what is known now that stage j is trained makes it another."""
        if self.plan is None or not self._may_change(j):
            return run
        before, self.plan = self.plan, self._planned()
        if self.plan.stores == before.stores:
            return self.plan.followed(self.asked)
        self.report.say(f"planned anew after stage {j}, which shows what compresses: {_stores(self.plan)}")
        return self.plan.followed(self.asked)

    def _may_change(self, j: int) -> bool:
        """Whether stage j tells more of bytes than was known, and any stage of the plan follows."""
        last = len(self.asked.stages) - 1 if self.plan_to is None else self.plan_to
        return j < last and self.asked.config.for_stage(j).store.codec != "none"

    def _planned(self) -> Plan:
        """By what is known now; of a plan that was said, what was said of the alternatives."""
        run = self.asked
        return plan_run(
            run.path,
            run.config,
            self.device,
            self.report,
            run=run,
            lock=self.lock,
            host_bytes=run.host_bytes,
            last=self.plan_to,
            without=self.refused,
            others=self._others(),
        )

    def _others(self) -> Sequence[Alternative] | None:
        """The alternatives where they are not to be worked out."""
        if self.plan is not None:
            return self.plan.alternatives
        return () if self.is_brief else None


def _stores(plan: Plan) -> str:
    """What it stores, in words."""
    return f"stores {', '.join(f'x_{i}' for i in plan.stores)}" if plan.stores else "no store, all is recomputed"
