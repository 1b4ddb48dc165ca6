"""The command lines of the experiments. Whatever is heavy is imported inside the command that needs it."""

import click

from pipeline.experiments.commands.report import report

COMMANDS: tuple[click.Command, ...] = (report,)
"""What `cli.py` adds to its own."""
