"""Which settings of two runs differ, beside the seed of the training: so that a mean is of one thing."""

from collections.abc import Mapping

import msgspec

from pipeline.data_info import moved_name
from pipeline.experiments.end_to_end import NAME, end_to_end
from pipeline.keys import ADDED, Fields
from pipeline.runfolder import RunFolder

Settings = Mapping[str, Fields]
"""Part of a run -> what its results depend on; "" is the whole, "0", "1" .. are the stages, and the network end to end
is one of its own."""

WHOLE = ""
IMAGES = "images"
FOLLOWING = ("seed", "input", "network.in_channels", "network.in_side")
"""Fields that are a seed's own, or follow from others."""
OF_STAGES = ("network.width", "network.downsample")
"""Of the network end to end those of all its stages, which say so."""


def settings_of(run: RunFolder) -> Settings:
    """Of a run folder, by its config and its images."""
    data = {f"data.{name}": value for name, value in msgspec.to_builtins(run.info.data).items()}
    data["data.source"] = ":".join(moved_name(run.info.data.source))
    whole = {
        **data,
        IMAGES: run.info.digest[:8],
        "network.stages": len(run.stages),
        "evaluate.ensemble": run.config.evaluate.ensemble,
    }
    stages = {str(j): _own(fields) for j, fields in enumerate(run.fields)}
    together = {name: value for name, value in end_to_end(run).fields.items() if name not in OF_STAGES}
    return {WHOLE: whole, **stages, NAME: _own(together)}


def _own(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name not in FOLLOWING}


def differing(then: Settings, now: Settings) -> list[str]:
    """What differs, as "train.lr 0.1 -> 0.05" where it does in all parts that both have, or else with these named."""
    both = [part for part in then if part in now]
    if (then.keys() ^ now.keys()) - {NAME} and NAME in both:
        both.remove(NAME)  # of another depth it is another in whatever follows from that
    having: dict[str, list[str]] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for part in both:
        for name in dict.fromkeys([*then[part], *now[part]]):
            having.setdefault(name, []).append(part)
            one, other = (side[part].get(name, ADDED.get(name)) for side in (then, now))
            if one != other:
                found.setdefault((name, f"{one} -> {other}"), []).append(part)
    if any(name.startswith("data.") for name, _ in found):
        found = {key: parts for key, parts in found.items() if key[0] != IMAGES}
    return [f"{name} {change}{_where(parts, having[name])}" for (name, change), parts in found.items()]


def _where(parts: list[str], having: list[str]) -> str:
    """As in " in stages 1, 2", of a change that is not in all parts that have the setting."""
    stages = [part for part in parts if part not in (WHOLE, NAME)]
    if parts == having or stages == [part for part in having if part not in (WHOLE, NAME)] != []:
        return ""
    named = [f"stage{'s' if len(stages) > 1 else ''} {', '.join(stages)}"] if stages else []
    return f" in {' and '.join([*named, *([NAME] if NAME in parts else [])])}"
