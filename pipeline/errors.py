"""What can go wrong that is not a bug: each says what, where, and what to do next, and has its exit code."""

FORMAT_REMEDY = (
    "use the version of cascade that wrote it; or delete that store's folder: cascade train-stage --j J-1 writes x_J "
    "again, and for x_0 delete the whole x_0 and ingest again"
)
"""Of a store in a format that this version does not know."""


def first_line(error: Exception) -> str:
    """What an error says is wrong."""
    return str(error).partition("\nnext: ")[0]


def remedy_of(error: Exception) -> str:
    """What an error says to do, "" where it does not."""
    return str(error).partition("\nnext: ")[2]


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


class NoRoomError(DiskError):
    """Of a store that is to be written, while the folder is as it should be: a run can go on without it."""


class DeviceMemoryError(CascadeError):
    """The device has less memory than the work takes."""

    exit_code = 6


class Stopped(Exception):
    """The work ended early because it was asked to; the message says where it goes on."""
