"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

F = TypeVar("F", bound=Callable[..., Any])
BUDGETS = {"device": "device_memory", "host": "host_memory", "disk": "disk"}
"""Key of [budget] -> name of the option."""

run_option = click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path),
    default=".",
    metavar="DIR",
    help="Run folder; default: this one.",
)
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the config, as in train.lr=0.05."
)
device_option = click.option(
    "--device", metavar="NAME", help="cpu, cuda, cuda:1; default: the config's machine.device."
)
skip_bad_option = click.option(
    "--skip-bad", is_flag=True, help="Leave damaged images out of x_0, and list them in x_0/skipped.jsonl."
)
strict_option = click.option(
    "--strict", is_flag=True, help="Refuse to go on in the middle of a stage that was begun on another machine."
)


def accept_option(what: str) -> Callable[[F], F]:
    """--accept-stale, and `what` it does for a command."""
    return click.option("--accept-stale", is_flag=True, help=what)


accept_stores_option = accept_option("Take the stores of stages that --accept-stale goes on from for the config's.")
accept_before_option = accept_option("Go on from earlier stages of other settings, and record that.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, nothing else there.")


def budget_options(command: F) -> F:
    """--device-memory, --host-memory and --disk, as the settings that they are."""

    @wraps(command)
    def with_budget(settings: tuple[str, ...], **options: Any) -> Any:
        stated = {name: options.pop(option) for name, option in BUDGETS.items()}
        budget = (f'budget.{name}="{value}"' for name, value in stated.items() if value is not None)
        return command(settings=(*settings, *budget), **options)

    texts = {"device": "the GPU's memory", "host": "the host's memory that reading takes", "disk": "the run folder"}
    for name, option in BUDGETS.items():
        flag = f"--{option.replace('_', '-')}"
        add = click.option(flag, option, metavar="BYTES", help=f'budget.{name}: {texts[name]}, as in "6 GB".')
        with_budget = add(with_budget)
    return cast(F, with_budget)


def shared_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options in the order given."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add
