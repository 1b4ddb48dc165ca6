"""Configs that a plan names the price of: other codecs, which change no result, and other encodings and policies, which
do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import msgspec

from cache import CODECS
from pipeline.config import Augment, Config, StageOverrides
from pipeline.runfolder import RunFolder

POLICIES = get_args(Augment.__annotations__["policy"])
STORES = {"encoding": ("uint4",), "codec": CODECS}
"""Setting of [store] -> what is priced instead of it."""


@dataclass(frozen=True)
class OtherWay:
    """A change of the config."""

    name: str
    config: Config
    changes_results: bool

    def seen(self, run: RunFolder | None) -> RunFolder | None:
        """A run folder as it is under it: what changes results leaves no stage of another branch in it."""
        if run is None or not self.changes_results:
            return run
        return RunFolder(run.path, self.config, run.settings)


def other_ways(config: Config) -> Iterator[OtherWay]:
    """One after the other, each a single change; where stages have settings of their own, of these apart."""
    for setting, values in STORES.items():
        for table, own, stages in _tables(config, setting):
            for value in values:
                if value != own:
                    other = _with_store(config, stages, {setting: value})
                    yield OtherWay(f"{table}.{setting} = {value}", other, changes_results=setting == "encoding")
    augment = config.augment
    for policy in POLICIES if augment.is_random else ():
        if policy != augment.policy and not (policy == "canvas" and augment.scale):
            changed = msgspec.structs.replace(augment, policy=policy)
            other = msgspec.structs.replace(config, augment=changed)
            yield OtherWay(f"augment.policy = {changed.rendering}", other, changes_results=True)


def _tables(config: Config, setting: str) -> Iterator[tuple[str, Any, list[str]]]:
    """Where a setting of [store] is set for any x_1..x_{J-1}: name, value, and the stages with this one of their own,
    none for that of the run; stages of the same value together."""
    outputs = [str(j) for j in range(config.network.stages - 1)]
    own = {
        j: config.stages[j].store[setting] for j in outputs if setting in config.stages.get(j, StageOverrides()).store
    }
    if len(own) < len(outputs):
        yield "store", getattr(config.store, setting), []
    for value in dict.fromkeys(own.values()):
        stages = [j for j in outputs if own.get(j) == value]
        yield f"stages.{','.join(stages)}.store", value, stages


def _with_store(config: Config, stages: Sequence[str], change: dict[str, Any]) -> Config:
    """The config with other settings of [store], or of that of these stages."""
    if not stages:
        return msgspec.structs.replace(config, store=msgspec.structs.replace(config.store, **change))
    overrides = dict(config.stages)
    for j in stages:
        overrides[j] = msgspec.structs.replace(overrides[j], store={**overrides[j].store, **change})
    return msgspec.structs.replace(config, stages=overrides)
