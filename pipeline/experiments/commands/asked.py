"""Options of an experiment that are settings of the config, for one command."""

from __future__ import annotations

from collections.abc import Mapping

import click

Given = Mapping[str, int | None]
"""Setting -> its value, or None where the option was not given."""


def as_settings(given: Given) -> tuple[str, ...]:
    """As `--set` takes them."""
    return tuple(f"{name}={value}" for name, value in given.items() if value is not None)


def say_of_this_command_alone(given: Given) -> None:
    """Say that what was made is of other settings than the config's, and what to put there."""
    lines: dict[str, list[str]] = {}
    for name, value in given.items():
        section, _, key = name.rpartition(".")
        if value is not None:
            lines.setdefault(section, []).append(f"{key} = {value}")
    shown = ", ".join(f"[{section}] {one}" for section, own in lines.items() for one in own)
    click.echo(
        "of other settings than the config's: status and report list it as stale, and gc as what could be deleted\n"
        f"next: to keep it, put in cascade.toml: {shown}",
        err=True,
    )
