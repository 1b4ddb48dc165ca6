"""The command lines of the experiments. Whatever is heavy is imported inside the command that needs it."""

import click

from pipeline.experiments.commands.baseline import baseline
from pipeline.experiments.commands.compare import compare
from pipeline.experiments.commands.probe import probe
from pipeline.experiments.commands.refit import refit_last
from pipeline.experiments.commands.report import report
from pipeline.experiments.commands.sweep import sweep
from pipeline.experiments.commands.transfer import transfer

COMMANDS: tuple[click.Command, ...] = (baseline, compare, probe, refit_last, report, sweep, transfer)
"""What `cli.py` adds to its own."""
