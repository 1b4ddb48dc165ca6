"""What can go wrong that is not a bug: each says what, where, and what to do next, and has its exit code."""


class CascadeError(Exception):
    """The work cannot go on."""

    exit_code = 1


class ConfigError(CascadeError):
    """The command, the config or the data set it names cannot be used."""

    exit_code = 2


class RefusedError(CascadeError):
    """What the work would start from is not there, or is not what the config now describes."""

    exit_code = 3


class CorruptDataError(CascadeError):
    """Images, labels or what a stage kept are damaged."""

    exit_code = 4


class LockedError(CascadeError):
    """Another process works on the run folder."""

    exit_code = 5


class DiskError(CascadeError):
    """The disk has too little room for what is to be written; nothing of it was."""

    exit_code = 6


class DeviceMemoryError(CascadeError):
    """The device has less memory than the work takes."""

    exit_code = 6


class Stopped(Exception):
    """The work ended early because it was asked to; the message says where it goes on."""
