"""Where the time of reading goes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

Cause = Literal["disk", "decode", "gather"]
"""Reading files; verifying checksums and decompressing; copying samples to their places in the batches. Large samples
that are not compressed are read straight to their places: that is "disk"."""
CAUSES: tuple[Cause, ...] = get_args(Cause)


class Timings:
    """Seconds that reading threads work, and that their consumer waits for them, by cause."""

    def __init__(self) -> None:
        self.work: dict[str, float] = dict.fromkeys(map(str, CAUSES), 0.0)
        """Summed over threads. Most of it goes on while the consumer is busy."""
        self.waits: dict[str, float] = dict.fromkeys(map(str, CAUSES), 0.0)
        """The consumer's waiting, shared out by what the threads spent their time on since it waited last."""
        self._work_before_wait = dict(self.work)
        self._adding = threading.Lock()

    @contextmanager
    def of(self, cause: Cause) -> Iterator[None]:
        """Add the time that the context is open to the work."""
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            with self._adding:
                self.work[cause] += seconds

    def waited(self, seconds: float) -> None:
        """Add a wait of the consumer, which is over."""
        with self._adding:
            since = {cause: self.work[cause] - self._work_before_wait[cause] for cause in CAUSES}
            total = sum(since.values())
            for cause in CAUSES:
                self.waits[cause] += seconds * (since[cause] / total if total else 1 / len(CAUSES))
            self._work_before_wait = dict(self.work)
