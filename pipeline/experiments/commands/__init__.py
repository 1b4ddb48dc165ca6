"""The command lines of the experiments. Whatever is heavy is imported inside the command that needs it."""

import click

from pipeline.experiments.commands.baseline import baseline
from pipeline.experiments.commands.probe import probe

COMMANDS: tuple[click.Command, ...] = (baseline, probe)
"""What `cli.py` adds to its own."""
