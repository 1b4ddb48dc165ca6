"""Where in a run folder lies what experiments keep beside its stages.

baselines/J-KEY/        the network end to end, J the index of its last block; files as of a stage
probes/J-KEY/           a probe of x_J: probe.json of a linear one, of a CNN files as of a stage
transfer/KEY/           record.json of a transfer to other images, and features while it runs
seeds/SEED/             the run folder of a seed of a sweep; beside them summary.json
"""

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
