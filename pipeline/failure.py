"""What a user is told of an error that a user can cause, and the exit code it ends with."""

import errno
from pathlib import Path

from cache.errors import BudgetError, CorruptStoreError, FormatError, StoreError
from pipeline.disk import free_bytes
from pipeline.errors import FORMAT_REMEDY, CascadeError
from pipeline.progress import size

STORE_REMEDY = "cascade repair, with this command's --run and --set, computes what is damaged again from its parent"

DISK_REMEDY = (
    "look at the disk, the kernel's log (dmesg) names it; where it works again, or from a copy on another, the same "
    "command goes on, and cascade verify, with its --run and --set, says what can no longer be read and what makes it "
    "again"
)
"""Of what the disk could not read or write."""


def failure(error: BaseException) -> tuple[str, int] | None:
    """Message and exit code of an error that a user can cause; None for a bug."""
    match error:
        case CascadeError():
            return str(error), error.exit_code
        case FormatError():
            return f"{error}\nnext: {FORMAT_REMEDY}", 3
        case CorruptStoreError():
            return f"{error}\nnext: {STORE_REMEDY}", 4
        case BudgetError():
            return (
                f"{error}\nnext: raise budget.host, or lower order.window, which trains anew, or order.run, which "
                f"ingests anew too: delete x_0 where it is there already"
            ), 6
        case StoreError():
            return str(error), 3
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" at {error.filename}, where {_free(error.filename)} free" if error.filename else ""
            return (
                f"the disk is full{where}; what was committed is intact\n"
                f"next: make room (cascade gc, with this command's --run and --set, lists what can be freed, if "
                f"anything); then the same command"
            ), 6
        case OSError() if error.errno == errno.EFBIG:
            where = f" at {error.filename}" if error.filename else ""
            return (
                f"file too large{where}: a limit of the process or of the file system; what was committed is intact\n"
                f"next: raise the limit that ulimit -f shows or, where it is unlimited, use a file system that takes "
                f"larger files; then the same command"
            ), 6
        case OSError() if error.errno == errno.ENOMEM:
            return "the host is out of memory\nnext: a smaller budget.host, or free some", 6
        case OSError() if error.errno == errno.EIO:
            return f"{error.filename or 'a file'}: {error.strerror}: the disk fails\nnext: {DISK_REMEDY}", 1
        case OSError() if error.filename:
            return f"{error.filename}: {error.strerror}\nnext: look at the file or folder and its permissions", 1
        case MemoryError():
            return "the host is out of memory\nnext: a smaller train.batch_size, head.width or order.window", 6
        case RuntimeError() if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
            reason = str(error).splitlines()[0]
            return f"out of memory: {reason}\nnext: a smaller train.batch_size or head.width, or head.pool = 2", 6
    return None


def _free(place: str) -> str:
    """As in "1.2 MB are", of the disk that a file is on, or would be."""
    folder = next(folder for folder in Path(place).absolute().parents if folder.is_dir())
    return f"{size(free_bytes(folder))} are"
