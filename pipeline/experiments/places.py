"""Where in a run folder lies what experiments keep beside its stages.

baselines/J-KEY/        the network end to end, J the index of its last block; files as of a stage
probes/J-KEY/           a probe of x_J: probe.json of a linear one, of a CNN files as of a stage
transfer/KEY/           record.json of a transfer to other images, and features while it runs
seeds/SEED/             the run folder of a seed of a sweep; beside them summary.json
"""

from pathlib import Path

from pipeline.paths import run_option

BASELINES = "baselines"
PROBES = "probes"
COMMANDS = {BASELINES: "baseline", PROBES: "probe"}
"""Folder of what is of a key, as a stage is -> the command that fills it."""
PROBE_RECORD = "probe.json"
"""Record of a linear probe."""
TRANSFER = "transfer"
TRANSFER_RECORD = "record.json"
FEATURES = "features"
SEEDS = "seeds"
SUMMARY = "summary.json"
"""In the folder of the seeds."""
WRITTEN = (f"{BASELINES}/*", f"{PROBES}/*", f"{TRANSFER}/*", f"{TRANSFER}/*/{FEATURES}", SEEDS)
"""Folders in which files are written."""
DELETED = (f"{BASELINES}/*", f"{PROBES}/*", f"{TRANSFER}/*/*")
"""Folders that are deleted whole."""


def command_of(folder: Path) -> str:
    """The command that makes what a folder holds, as in "baseline" or "probe --j 2"."""
    command = COMMANDS[folder.parent.name]
    return f"{command} --j {folder.name.partition('-')[0]}" if command == "probe" else command


def makes_again(folder: Path) -> str:
    """What to do after what is damaged in the folder of a stage, or of what lies beside the stages, is out of the way:
    "train the stage again", or the command of that folder."""
    if folder.parent.name not in COMMANDS:
        return "train the stage again"
    return f"cascade {command_of(folder)}{run_option(folder.parent.parent)}"


def is_seed(name: str) -> bool:
    """Whether a folder has the name that a sweep gives that of a seed."""
    return name.isascii() and name.isdecimal() and str(int(name)) == name


def sweep_of(folder: Path) -> Path | None:
    """The run folder whose sweep has this one for a seed; None of any other."""
    at = folder if folder.parent.name == SEEDS else folder.resolve()
    parent = at.parent.parent
    is_of_one = is_seed(at.name) and at.parent.name == SEEDS and (parent / "cascade.toml").is_file()
    return parent if is_of_one else None
