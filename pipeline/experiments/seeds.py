"""A run folder for each training seed, below the run folder whose config they share.

DIR/cascade.toml             the config of all, but for the seed
DIR/x_0/                     the images of all: no setting of theirs depends on the training seed
DIR/seeds/SEED/cascade.toml  the same with that seed, written anew by every sweep
DIR/seeds/SEED/x_0           a link to ../../x_0, so that the whole can move
DIR/seeds/SEED/stages/       its own, as of any run folder
"""

import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cache import make_folder, replace_file, sync
from pipeline.config import Config
from pipeline.config_file import CONFIG_NAME, load_config, parse_setting, read_config
from pipeline.data_info import X_0
from pipeline.errors import ConfigError, CorruptDataError, RefusedError
from pipeline.experiments.places import SEEDS, is_seed
from pipeline.links import check_unlinked, read_file
from pipeline.paths import matching, run_option
from pipeline.presets import with_setting

MOST = 1000
LINK = os.path.join("..", "..", X_0)
EXPECTED = "expected numbers and ranges, as in 0..4 or 0,1,7"
NEXT = "next: --seeds 0..4"


def parse_seeds(text: str) -> list[int]:
    """The seeds of "0..4" or "0,1,7..9", each once, in the order given. Raises ConfigError."""
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,18})\s*(?:\.\.\s*(\d{1,18})\s*)?", part, re.ASCII)
        if not found:
            raise ConfigError(f"--seeds {text}: {EXPECTED}\n{NEXT}")
        first, last = int(found[1]), int(found[2] or found[1])
        if first > last:
            raise ConfigError(f"--seeds {text}: nothing lies between {first} and {last}; {EXPECTED}\n{NEXT}")
        if len(seeds) + last - first >= MOST:
            raise ConfigError(f"--seeds {text}: more than {MOST} seeds\nnext: name less")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def seed_folder(parent: Path, seed: int) -> Path:
    """The run folder of a seed."""
    return parent / SEEDS / str(seed)


def seeds_there(parent: Path) -> list[int]:
    """The seeds that have a run folder, in order."""
    return [seed for seed in numbered(parent) if (seed_folder(parent, seed) / CONFIG_NAME).exists()]


def numbered(parent: Path) -> list[int]:
    """The seeds whose folder has a config, or stages without one, in order."""
    found = (path.parent.name for what in (CONFIG_NAME, "stages") for path in matching(parent, f"{SEEDS}/*/{what}"))
    return sorted({int(name) for name in found if is_seed(name)})


def sweep_command(parent: Path) -> str:
    """`cascade sweep` of a run folder, to show to the user."""
    return f"cascade sweep{run_option(parent)}"


def list_of_seeds(seeds: Sequence[int]) -> str:
    """As in "seed 2", "seeds 0, 2"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"


def reported(path: Path) -> list[Path]:
    """The run folders of a sweep's seeds, where nothing is trained beside them in its own; else this one."""
    seeds = [] if any((path / "stages").glob("[!.]*-*")) else seeds_there(path)
    return [seed_folder(path, seed) for seed in seeds] or [path]


def make_seed_folder(parent: Path, seed: int, settings: Sequence[str]) -> Path:
    """The run folder of a seed, its config written from the parent's with `settings` over it, its images the parent's.

    Raises ConfigError where the parent's config is such that the seed's does not come out of it, CorruptDataError
    where a link is in the way, RefusedError where the folder has images of its own.
    """
    folder = seed_folder(parent, seed)
    check_unlinked(folder, below=parent)
    make_folder(folder)
    _link_images(folder)
    text = _config_text(parent, seed, settings).encode()
    if not (folder / CONFIG_NAME).exists() or read_file(folder / CONFIG_NAME) != text:
        replace_file(folder / CONFIG_NAME, text)
    return folder


def _link_images(folder: Path) -> None:
    x_0 = folder / X_0
    if x_0.is_symlink():
        if os.readlink(x_0) != LINK:
            raise CorruptDataError(f"{x_0} leads to {os.readlink(x_0)}, and not to {LINK}\nnext: remove the link")
    elif x_0.exists():
        raise RefusedError(f"{folder} has images of its own\nnext: move it away, the seeds of a sweep share theirs")
    else:
        x_0.symlink_to(LINK)
    sync(folder)


def _config_text(parent: Path, seed: int, settings: Sequence[str]) -> str:
    """The parent's file with values put in, checked to be the config that it is meant to be."""
    path = parent / CONFIG_NAME
    expected = msgspec.structs.replace(load_config(parent, settings), seed=seed)
    source = f"data.source={msgspec.json.encode(expected.data.source).decode()}"
    text = read_file(path).decode("utf-8-sig").replace("\r\n", "\n")
    text = f"# Of seed {seed}, written by cascade sweep from ../../{CONFIG_NAME}: edit that one.\n{text}"
    for setting in (*settings, source, f"seed={seed}"):
        text = with_setting(text, setting)
    try:
        is_it = _parsed(text, expected.data.source) == expected
    except (tomllib.TOMLDecodeError, ConfigError):
        is_it = False
    if not is_it:
        names = ", ".join(sorted({".".join(parse_setting(one)[0]) for one in (*settings, source, "seed=0")}))
        raise ConfigError(f"{path}: no config of one seed can be made of it\nnext: write {names} on lines of their own")
    return text


def _parsed(text: str, source: str) -> Config | None:
    """The config of a file's text, None where its data set has another address than `source`."""
    table = tomllib.loads(text)
    if table.get("data", {}).get("source") != source:
        return None
    return read_config(table, where="the config of a seed")
