"""The images of a data set decoded for x_0, and account of those that are bad."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.bad_images import (
    BAD_IMAGES,
    BadImage,
    is_of_the_machine,
    printable,
    read_bad_images,
    reason_of,
    shown,
    write_bad_images,
)
from pipeline.config import Config
from pipeline.errors import CorruptDataError, Stopped
from pipeline.images import MisfitError, to_canvas
from pipeline.progress import Reporter
from pipeline.sources import Source, Split

Run = tuple[int, list[NDArray[np.uint8]]]
"""Images that are stored together, (C, side, side), and the place of the first among those of the split."""


class Sieve:
    """Decodes the images of every split, notes which are bad, and says whether the others can be kept.

    `splits` gives the sample ids of each in stored order, bad ones included. With `skip_bad` damaged images are left
    out, which keeps the order of the others; images that do not fit the [data] section are a mistake in either case.
    """

    def __init__(
        self,
        config: Config,
        source: Source,
        splits: dict[str, NDArray[np.int64]],
        channels: int,
        side: int,
        run_folder: Path,
        report: Reporter,
        skip_bad: bool,
        should_stop: Callable[[], bool],
    ) -> None:
        self.splits = splits
        self.skip_bad = skip_bad
        self.channels = channels
        self.side = side
        self.bad: dict[str, dict[int, str]] = {name: {} for name in splits}
        """Split -> sample id -> reason."""
        self._config = config
        self._source = source
        self._list = run_folder / BAD_IMAGES
        self._report = report
        self._should_stop = should_stop
        self._any_misfit = False

    @property
    def is_refused(self) -> bool:
        """Whether nothing will be kept, and the rest is looked at only to find what else is bad."""
        return self._any_misfit or (not self.skip_bad and any(self.bad.values()))

    def split(self, name: str) -> Split:
        """Where the images of a split come from."""
        return self._source.test if name == "test" else self._source.train

    def try_listed(self) -> None:
        """Try the images again that the last ingest was refused for, so that its hours were not for nothing.

        By name, since the sample ids change when files are taken away.
        """
        if listed := {image.name for image in read_bad_images(self._list)}:
            for name, ids in self.splits.items():
                split = self.split(name)
                self.look(name, np.array([i for i in ids if printable(split.name(int(i))) in listed], np.int64))

    def kept(self, name: str) -> NDArray[np.int64]:
        """Sample ids of a split without the bad ones.

        Raises CorruptDataError where no training image of a class is left, or none of another split.
        """
        every, labels = self.splits[name], self.split(name).labels
        ids = every[~np.isin(every, list(self.bad[name]))]
        lost = np.setdiff1d(labels[every], labels[ids])
        if lost.size and (name == "train" or not ids.size):
            of = f" of class {self._source.classes[lost[0]]!r}" if name == "train" else ""
            raise self.refusal(f"and no {name} image{of} is left without them; nothing was written")
        return ids

    def look(self, name: str, ids: NDArray[np.int64]) -> None:
        """Decode images of a split only to find what is bad."""
        for _ in self.decoded(name, ids):
            pass

    def decoded(self, name: str, ids: NDArray[np.int64]) -> Generator[Run, None, None]:
        """The images in stored order, run by run, without those that are bad, which are noted.

        Raises Stopped between two runs.
        """
        run, threads = self._config.order.run, self._config.machine.threads
        with (
            ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
            self._report.task(f"ingest {name}", len(ids)) as task,
        ):
            for first in range(0, len(ids), run):
                if self._should_stop():
                    raise Stopped(f"ingest: stopped after {first:,} of {len(ids):,} {name} images; it begins anew")
                numbers = [int(i) for i in ids[first : first + run]]
                images = []
                for i, image in zip(numbers, pool.map(lambda i: self.image(name, i), numbers), strict=True):
                    if isinstance(image, Exception):
                        self._note(name, i, image)
                    else:
                        images.append(image)
                task.update(min(first + run, len(ids)))
                yield first, images

    def image(self, name: str, i: int) -> NDArray[np.uint8] | Exception:
        """Image i of a split as (C, side, side), or what is wrong with it. Raises what is wrong with the machine."""
        split = self.split(name)
        try:
            return to_canvas(split.load(i), self.side, self.channels, resize=self._config.data.canvas > 0)
        except Exception as error:  # a decoder raises anything; every image is named, whatever ails it
            if not is_of_the_machine(error):
                return error.with_traceback(None)  # whose frames hold the image
            if isinstance(error, OSError) and not error.filename:
                error.filename = split.name(i)
            raise

    def bad_images(self) -> list[BadImage]:
        """All that were found so far, by split and sample id."""
        return [
            BadImage(split=name, sample_id=i, name=printable(self.split(name).name(i)), reason=bad[i])
            for name, bad in self.bad.items()
            for i in sorted(bad)
        ]

    def refusal(self, outcome: str) -> CorruptDataError:
        """The error that says what is to be done about the bad images, all of them now listed in a file."""
        bad = self.bad_images()
        write_bad_images(self._list, bad)
        if self._any_misfit:
            remedy = "change [data] as said, or take these images away; --skip-bad leaves out damaged ones alone"
        elif self.skip_bad:
            remedy = "mend them, or change the data set"
        else:
            remedy = "mend them or take them away, or leave them out: the same command with --skip-bad"
        return CorruptDataError(
            f"{len(bad):,} bad image{'s' * (len(bad) > 1)} in {self._config.data.source}, {outcome}:\n{shown(bad)}\n"
            f"all of them, one a line: {self._list}; the next ingest tries these first\n"
            f"next: {remedy}"
        )

    def _note(self, name: str, i: int, error: Exception) -> None:
        self.bad[name][i] = reason_of(error)
        self._any_misfit |= isinstance(error, MisfitError)
