"""Where in a run folder lies what is trained beside its stages.

baselines/J-KEY/    the network end to end, J the index of its last block; files as of a stage
probes/J-KEY/       a probe of x_J: probe.json of a linear one, of a CNN files as of a stage
"""

BASELINES = "baselines"
PROBES = "probes"
COMMANDS = {BASELINES: "baseline", PROBES: "probe"}
"""Folder -> the command that fills it."""
PROBE_RECORD = "probe.json"
"""Record of a linear probe."""
