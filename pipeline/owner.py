"""Whose images a run folder has: its own, or, as a seed of a sweep, those of the folder above, through a link.

So that a refusal says what to do where that helps, and no seed gets images of its own.
"""

import os
from pathlib import Path

from pipeline.errors import RefusedError
from pipeline.experiments.places import sweep_of
from pipeline.paths import run_option

X_0 = "x_0"


def images_again(run_folder: Path) -> str:
    """What to do where x_0 is not what it should be."""
    owner = sweep_of(run_folder)
    where = "" if owner is None else f": cascade ingest{run_option(owner)}"
    return f"delete {(owner or run_folder) / X_0} and ingest again{where}"


def no_images(run_folder: Path) -> RefusedError:
    """Of a folder without x_0: why, and what makes it."""
    x_0, owner = run_folder / X_0, sweep_of(run_folder)
    if owner is not None and (owner / X_0).is_dir() and not x_0.is_dir():
        seed = run_folder.resolve().name
        return RefusedError(
            f"{run_folder} has no x_0: the link to that of {owner} is gone\n"
            f"next: cascade sweep{run_option(owner)} --seeds {seed}, which puts it back"
        )
    if owner is None and x_0.is_symlink() and not x_0.exists():
        return RefusedError(
            f"{x_0} is a link to {os.readlink(x_0)}, where nothing is\nnext: put the images there, or remove the link"
        )
    return RefusedError(f"{run_folder} has no x_0 yet\nnext: cascade ingest{run_option(owner or run_folder)}")


def check_ingests_itself(run_folder: Path) -> None:
    """Raise RefusedError where a folder without images is not to get any of its own: where a link is in their place, or
    it is that of a seed."""
    if (run_folder / X_0).is_symlink() or sweep_of(run_folder) is not None:
        raise no_images(run_folder)
