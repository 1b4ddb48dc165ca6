"""The command lines of the experiments. Whatever is heavy is imported inside the command that needs it."""

import click

from pipeline.experiments.commands.refit import refit_last

COMMANDS: tuple[click.Command, ...] = (refit_last,)
"""What `cli.py` adds to its own."""
