"""What a command opens: its config, its run folder, its device. Whatever is heavy is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import torch

    from pipeline.config import Config
    from pipeline.progress import Reporter
    from pipeline.runfolder import RunFolder


def load(run_path: Path, settings: tuple[str, ...]) -> Config:
    """The config of a run folder, with these settings over it."""
    from pipeline.config_file import load_config

    return load_config(run_path, settings)


def open_run(run_path: Path, settings: tuple[str, ...], *, accept_before: int | None = None) -> RunFolder:
    """The run folder; stages before `accept_before` may be of other settings."""
    from pipeline.acceptance import accept_stale
    from pipeline.runfolder import RunFolder

    folder = RunFolder(run_path, load(run_path, settings), settings)
    if accept_before is None:
        return folder
    folder.check_stage(accept_before)
    return accept_stale(folder, accept_before)


def open_to_look(run_path: Path, settings: tuple[str, ...], accept_stale: bool) -> RunFolder:
    """The run folder to look at, as its plan has it; with `accept_stale`, with the stages in it that a command with it
    goes on from."""
    from pipeline.acceptance import accept_stale as accepting
    from pipeline.plan import as_planned

    folder = as_planned(open_run(run_path, settings))
    return accepting(folder) if accept_stale else folder


def ingest_if_missing(run_path: Path, settings: tuple[str, ...]) -> None:
    """Ingest the images of a run folder that has no x_0 yet."""
    from pipeline.data_info import read_data_info
    from pipeline.runs import ingest_data

    config = load(run_path, settings)
    if read_data_info(run_path) is None:
        ingest_data(config, run_path, reporter(), should_stop=should_stop())


def open_to_show(run_path: Path, settings: tuple[str, ...]) -> tuple[RunFolder, str]:
    """The run folder as its plan has it, and what is wrong with that; "" where nothing is."""
    from pipeline.errors import CorruptDataError
    from pipeline.plan import as_planned, read_plan

    folder = open_run(run_path, settings)
    try:
        read_plan(run_path)
    except CorruptDataError as error:
        return folder, str(error)
    return as_planned(folder), ""


def device_of(run: RunFolder, name: str | None) -> torch.device:
    """The device of a name, by default the config's."""
    from pipeline.device import choose_device

    machine = run.config.machine
    return choose_device(machine.device if name is None else name, deterministic=machine.deterministic)


def reporter() -> Reporter:
    """What a command says its progress through."""
    from pipeline.progress import Reporter

    return Reporter()


def should_stop() -> Callable[[], bool]:
    """Whether a signal has come: `main` gives it to every command."""
    stops: Callable[[], bool] = click.get_current_context().find_root().obj
    return stops
