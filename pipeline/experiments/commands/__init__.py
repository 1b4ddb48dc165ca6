"""The command lines of the experiments. Whatever is heavy is imported inside the command that needs it."""

import click

COMMANDS: tuple[click.Command, ...] = ()
"""What `cli.py` adds to its own."""
