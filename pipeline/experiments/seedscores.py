"""Which seeds of a sweep count: those that differ in their seed alone, since a mean over others would be of nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config_file import CONFIG_NAME, load_config
from pipeline.errors import CascadeError, ConfigError, CorruptDataError, RefusedError, first_line, remedy_of
from pipeline.experiments.alike import Settings, differing, settings_of
from pipeline.experiments.places import SEEDS
from pipeline.experiments.scores import Scored, scored, scored_run
from pipeline.experiments.seeds import list_of_seeds, numbered, seed_folder, sweep_command
from pipeline.links import check_unlinked
from pipeline.paths import matching
from pipeline.runfolder import RunFolder


@dataclass(frozen=True)
class Counted:
    """What counts of a run folder or a sweep."""

    scores: Mapping[int, Scored]
    """By seed; all of the same settings."""
    notes: list[str]
    """Which seeds do not count, and why; what else the reader should know."""


def scores_of(path: Path) -> Counted:
    """What is trained in a run folder: in the seeds of its sweep, or, where none has anything trained, in itself.

    Raises RefusedError where nothing is, or as `seed_scores`.
    """
    trained, notes = _trained(path)
    if trained:
        return _alike(path, trained, notes, ())
    one = scored(path)
    if not one.test:
        tried = f" and {path / SEEDS}" if numbered(path) else ""
        raise RefusedError(
            "\n".join(
                [f"nothing is trained in {path}{tried} with its settings", *notes, f"next: cascade run --run {path}"]
            )
        )
    return Counted({one.seed: one}, notes)


def seed_scores(path: Path, settings: Sequence[str] = ()) -> Counted:
    """What the seeds of a sweep have trained, with the config of their parent, `settings` over it.

    Where none has those settings they count all the same, if they are alike. Raises RefusedError where they are not,
    and where nothing is trained.
    """
    trained, notes = _trained(path)
    if not trained:
        raise RefusedError(
            "\n".join([f"no seed is trained in {path / SEEDS}", *notes, f"next: {sweep_command(path)} --seeds 0..4"])
        )
    return _alike(path, trained, notes, settings)


def _alike(path: Path, trained: Mapping[int, Scored], notes: list[str], settings: Sequence[str]) -> Counted:
    """Those of the same settings."""
    if any(matching(path, "stages/[!.]*-*/stage.json")):
        notes = [*notes, f"what is trained in {path} itself is left out: its seeds count"]
    own, why = _own_settings(path, settings)
    if own is not None:
        others = {seed: ", ".join(differing(own, one.settings)) for seed, one in trained.items()}
        if like := {seed: trained[seed] for seed, changes in others.items() if not changes}:
            left = _by_reason({seed: changes for seed, changes in others.items() if changes})
            return Counted(like, [*notes, *(f"left out, of other settings: {one}" for one in left)])
    first = min(trained)
    apart = {seed: ", ".join(differing(trained[first].settings, one.settings)) for seed, one in trained.items()}
    if any(apart.values()):
        lines = [f"  beside seed {first}: {one}" for one in _by_reason({s: text for s, text in apart.items() if text})]
        raise RefusedError(
            f"the seeds of {path} are of other settings each, and none is of those of {path / CONFIG_NAME}\n"
            + "\n".join([*lines, *notes])
            + f"\nnext: {sweep_command(path)} --seeds {','.join(map(str, trained))} trains them alike; or the config "
            "that those are of which are to count"
        )
    moved = ", ".join(differing(trained[first].settings, own)) if own is not None else why
    return Counted(
        trained,
        [
            *notes,
            f"{path / CONFIG_NAME} has other settings by now than these seeds: {moved}\n"
            f"next: {sweep_command(path)} --seeds {','.join(map(str, trained))} trains them with those",
        ],
    )


def _own_settings(path: Path, settings: Sequence[str]) -> tuple[Settings | None, str]:
    """Of the parent; None and why where it is of other images by now."""
    try:
        return settings_of(RunFolder(path, load_config(path, settings))), ""
    except RefusedError as error:
        return None, first_line(error)


def _by_reason(reasons: Mapping[int, str]) -> list[str]:
    """As in "seeds 0, 2: train.lr 0.1 -> 0.05"."""
    return [
        f"{list_of_seeds([seed for seed, other in reasons.items() if other == reason])}: {reason}"
        for reason in dict.fromkeys(reasons.values())
    ]


def _trained(parent: Path) -> tuple[dict[int, Scored], list[str]]:
    """What each seed has trained, and a note on each that has nothing or cannot be told."""
    found, notes, untrained = {}, [], []
    for seed in numbered(parent):
        try:
            one = scored_run(open_seed(parent, seed))
        except (ConfigError, RefusedError) as error:
            notes.append(f"seed {seed} is left out: {said(error)}\nnext: {remedy_of(error) or anew(parent, seed)}")
            continue
        if one.test:
            found[seed] = one
        else:
            untrained.append(seed)
    if untrained:
        notes.append(f"{list_of_seeds(untrained)}: nothing is trained with the settings of its config")
    return found, notes


def open_seed(parent: Path, seed: int) -> RunFolder:
    """The run folder of a seed.

    Raises ConfigError where its config is not there, cannot be read or is of another seed; and RefusedError.
    """
    folder = seed_folder(parent, seed)
    try:
        check_unlinked(folder, below=parent)
    except CorruptDataError as error:
        raise RefusedError(str(error)) from error
    if not (folder / CONFIG_NAME).exists():
        raise ConfigError(f"{folder} has no {CONFIG_NAME}\nnext: {anew(parent, seed)}")
    config = load_config(folder)
    if config.seed != seed:
        raise ConfigError(
            f"{folder / CONFIG_NAME} has seed = {config.seed}, as a copy would\n"
            f"next: move it away, or {anew(parent, seed)}"
        )
    return RunFolder(folder, config)


def said(error: CascadeError) -> str:
    """What it says, on one line."""
    return " ".join(first_line(error).split())


def anew(parent: Path, seed: int) -> str:
    """What makes the config of a seed what it should be."""
    return f"{sweep_command(parent)} --seeds {seed}, which writes its config anew"
