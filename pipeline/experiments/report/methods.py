"""Runs sorted into methods: those that differ in their seeds alone are one, called by what tells it from the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import msgspec

from pipeline.config import Config, Data
from pipeline.data_info import moved_name
from pipeline.errors import ConfigError
from pipeline.experiments.report.facts import RunFacts
from pipeline.experiments.report.figure import Tone
from pipeline.keys import OF_THE_STAGE, OF_WHAT_FOLLOWS, differences
from pipeline.runfolder import RunFolder

MOST = 12
"""Methods that a page tells apart: as many names stand below each other beside a figure."""
LONGEST = 18
"""Letters of a name that has room beside a figure."""
TONES: tuple[Tone, ...] = ("first", "second", "third", "fourth", "fifth", "sixth")
SAID = {
    "head.k": "k = {}",
    "augment.policy": "{}",
    "network.width": "M = {}",
    "network.stages": "{} blocks",
    "compress.keep": "keep {}",
    "head.width": "head {}",
    "network.downsample": "{}",
    "network.downsample_at": "P at {}",
    "store.encoding": "{}",
    "train.epochs": "{} epochs",
    "train.lr": "lr {}",
    "train.schedule": "{}",
    "train.start": "{} start",
    "images": "images {}",
}
"""Settings that methods are called by where they differ in them, those first that come first, and how a value is read;
all others after these, by their own name."""
BESIDE = ("network.stages", "data.source", "data.canvas", "data.channels", "data.validation")
"""What a reader is told of, too, though no stage's own result depends on it."""


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seeds alone."""

    name: str
    """What it differs in from the others, as in "k = 2, canvas"; or a letter, where that has no room."""
    settings: Mapping[str, str]
    """Those in which the methods of a page differ, in words."""
    runs: Sequence[RunFacts]
    tone: Tone

    @property
    def in_full(self) -> str:
        """With all that it differs in, where it is called by a letter."""
        said = ", ".join(called(name, value) for name, value in self.settings.items())
        return f"{self.name}: {said}" if len(self.name) == 1 else self.name

    def named(self, facts: RunFacts, *, alone: bool = False) -> str:
        """One of its runs, by its seed, or its folder where others have that too; `alone`, where the page has no other
        method, that is all, and of one run nothing."""
        has_own_seed = [other.seed for other in self.runs].count(facts.seed) == 1
        own = f"seed {facts.seed}" if has_own_seed else facts.name
        return ", ".join([*([] if alone else [self.name]), *([own] if len(self.runs) > 1 else [])])


def sorted_out(runs: Sequence[RunFacts]) -> list[Method]:
    """The methods of runs, in the order of their first.

    Raises ConfigError of more than MOST, and where one training would count as two.
    """
    groups: list[list[RunFacts]] = []
    for facts in runs:
        alike = next((group for group in groups if is_alike(group[0].run, facts.run)), None)
        groups.append([facts]) if alike is None else alike.append(facts)
    for group in groups:
        _check_once(group)
    if len(groups) > MOST:
        raise ConfigError(f"{len(groups)} methods: expected at most {MOST} on one page\nnext: less of --run")
    settings = _differing([settings_of(group[0].run) for group in groups])
    named = zip(_names(settings), settings, groups, strict=True)
    return [Method(name, own, group, TONES[i % len(TONES)]) for i, (name, own, group) in enumerate(named)]


def _check_once(runs: Sequence[RunFacts]) -> None:
    """Raise ConfigError where two runs of a method are one training: of the same seeds, and to the same bits, as far as
    both are trained."""
    for facts, other in combinations(runs, 2):
        seeds = [(one.seed, one.run.config.data.seed) for one in (facts, other)]
        if seeds[0] == seeds[1] and _ends_alike(facts, other):
            raise ConfigError(
                f"{facts.run.path} and {other.run.path} hold the same training, of seed {facts.seed}: it would count "
                f"twice\nnext: one of the two as --run"
            )


def _ends_alike(facts: RunFacts, other: RunFacts) -> bool:
    """Whether all stages that both runs have trained, at least one, have the same weights."""
    pairs = zip(facts.stages, other.stages, strict=True)
    both = [(one.record.content, two.record.content) for one, two in pairs if one.record and two.record]
    return bool(both) and all(one == two for one, two in both)


def is_alike(run: RunFolder, other: RunFolder) -> bool:
    """Whether two runs differ in their seeds alone."""
    if len(run.stages) != len(other.stages) or _beside_seed(run.info.data) != _beside_seed(other.info.data):
        return False
    if run.info.data.seed == other.info.data.seed and run.info.digest != other.info.digest:
        return False
    pairs = zip(run.fields, other.fields, strict=True)
    return not any(differences({**then, "seed": 0}, {**now, "seed": 0}) for then, now in pairs)


def _beside_seed(data: Data) -> tuple[Data, tuple[str, str]]:
    """A [data] section without its seed, of the address what stays where files move."""
    return msgspec.structs.replace(data, seed=0, source=""), moved_name(data.source)


def settings_of(run: RunFolder) -> dict[str, str]:
    """Settings that results depend on, by their names, in words; "" is what has no say beside the others."""
    config, found = run.config, _flat(msgspec.to_builtins(run.config))
    found["augment.policy"] = config.augment.rendering
    found["augment.crop"] = run.side
    found["data.source"] = source_said(run)
    found["images"] = run.info.digest[:8]
    silent = _silent(config)
    names = {*OF_THE_STAGE, *OF_WHAT_FOLLOWS, *BESIDE, "images"} - {"seed", "augment.views", "augment.phases"}
    shown = {name: value for name, value in found.items() if name in names or name.startswith("stages.")}
    return {name: "" if name in silent else said(value) for name, value in shown.items()}


def source_said(run: RunFolder) -> str:
    """The address of the images, of files their name alone, as in "npz:images.npz"."""
    return ":".join(moved_name(run.config.data.source)).removesuffix(":")


def _flat(section: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings by their full names."""
    found: dict[str, Any] = {}
    for name, value in section.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def _silent(config: Config) -> set[str]:
    """Settings without a say beside the others."""
    silent = set[str]()
    if config.head.k == 1:
        silent |= {"head.width", "head.pool"}
    if config.train.schedule == "cosine":
        silent |= {"train.lr_drop_every", "train.lr_drop_factor", "train.reset_momentum"}
    if all(config.for_stage(j).compress.keep == 1 for j in range(config.network.stages)):
        silent |= {"compress.epochs", "compress.lr"}
    if not config.network.batch_norm:
        silent |= {"network.bn_group", "head.pooled_norm"}
    return silent


def said(value: object) -> str:
    """A setting as it is read."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _differing(settings: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Of each method the settings that are not the same in all that they have a say in, those that methods are called
    by first; "–" where one has none, or sets nothing.

    Images are told of by their content where no setting says that they are others.
    """
    names = {name for own in settings for name in own}
    others = {name for name in names if len({own.get(name, "–") for own in settings} - {""}) > 1}
    if any(name.startswith("data.") for name in others):
        others.discard("images")
    order = [*(name for name in SAID if name in others), *sorted(others - SAID.keys())]
    return [{name: own.get(name) or "–" for name in order} for own in settings]


def _names(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Each method by the first of the fewest settings that tell all apart, as many as it takes; by a letter where that
    is too long."""
    telling: list[str] = []
    for name in settings[0]:
        if _told_apart(settings, [name]) == len(settings):
            telling = [name]
            break
        if _told_apart(settings, [*telling, name]) > _told_apart(settings, telling):
            telling.append(name)
    names = [_name(own, settings, telling) for own in settings]
    if len(settings) > 1 and (max(map(len, names)) > LONGEST or len(set(names)) < len(names)):
        return [chr(ord("A") + i) for i in range(len(names))]
    return names


def _name(own: Mapping[str, str], settings: Sequence[Mapping[str, str]], telling: Sequence[str]) -> str:
    """One method by as many of these settings as no other has the same of."""
    for count in range(1, len(telling) + 1):
        if sum(all(other[name] == own[name] for name in telling[:count]) for other in settings) == 1:
            return ", ".join(called(name, own[name]) for name in telling[:count])
    return ""


def _told_apart(settings: Sequence[Mapping[str, str]], names: Sequence[str]) -> int:
    return len({tuple(own[name] for name in names) for own in settings})


def called(name: str, value: str) -> str:
    """A value of a setting as a method is called by it, as in "k = 2", "no residual", "cutout 8"."""
    if (name, value) == ("compress.keep", "1"):
        return "uncut"
    if name in SAID and value != "–":
        called = SAID[name].format(value)
        return called.removesuffix("s") if value == "1" else called
    plain = name.rpartition(".")[2].replace("_", " ")
    if value in ("yes", "no"):
        return plain if value == "yes" else f"no {plain}"
    return f"{plain} {value}"
