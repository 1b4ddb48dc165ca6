"""Room on the disk for x_{j+1}: how much of it a config's stores take, and what to do where there is too little."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from cache import CodecName, Store, read_journal
from cascade.quantiser import ENCODINGS
from pipeline.config import budget_bytes
from pipeline.disk import (
    NOTHING,
    SMALL_FILES,
    StoreSize,
    budgeted_folder,
    check_room,
    described_room,
    folder_size,
    of_all_seeds,
    room,
    run_bytes,
    store_size,
)
from pipeline.errors import DiskError
from pipeline.footprint import place_of, unwritten_split
from pipeline.gc import freeable
from pipeline.progress import Reporter, size
from pipeline.runfolder import RunFolder, is_committed

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Of a disk, or of this user's share of it."""


def output_size(run: RunFolder, j: int, split: str) -> StoreSize:
    """What x_{j+1} of a split takes before compression."""
    return store_size(
        samples=run.info.samples[split],
        views=run.config.augment.stored_views if split == "train" else 1,
        sample_bytes=run.outline.sample_bytes(j + 1),
        run=run.config.order.run,
    )


def kept_bytes(run: RunFolder) -> int:
    """Bytes of all x_j, j >= 1, that are kept at a time, over all splits and views, before compression.

    Where stores are deleted once nothing reads them these are the two largest neighbours: x_j goes once x_{j+1} is
    written.
    """
    sizes = [
        sum(output_size(run, j, split).nbytes for split in run.splits) if run.config.keeps(j + 1) else 0
        for j in range(len(run.stages))
    ]
    if run.frees:
        return max(map(sum, zip(sizes, [*sizes[1:], 0], strict=True)))
    return sum(sizes)


def check_output_room(
    run: RunFolder, j: int, codec: Callable[[], CodecName], sample: Callable[[], NDArray[Any]]
) -> None:
    """Raise DiskError where the disk has no room for what is not committed yet of x_{j+1}.

    `sample` gives the first run of its stored numbers, which the codec is tried on where that decides.
    """
    needed, there = _due(run, j)
    what = f"stage {j} is trained and kept, and x_{j + 1}"
    check_room(
        what,
        run.path,
        needed,
        codec,
        sample,
        there=there,
        budget=_budget(run),
        known_share=lambda name: _sampled_share(run, j, name),
        remedy=lambda: _remedy(run, j),
    )


@dataclass(frozen=True)
class OverBudget:
    """Of a run folder that holds more than its disk budget allows."""

    nbytes: int
    """Of all its files, x_0 included."""
    budget_bytes: int
    reason: str
    """The same in words."""
    next: str
    """What to do."""


def over_budget(run: RunFolder) -> OverBudget | None:
    """How much more a folder holds than budget.disk, and what would free it; None where that is no more, or not set.

    Every file is looked at for it.
    """
    if (budget := _budget(run)) is None or (there := run_bytes(run.path)) <= budget:
        return None
    gc = freeable(run)
    return OverBudget(
        nbytes=there,
        budget_bytes=budget,
        reason=f"{budgeted_folder(run.path)} takes {size(there)}, {size(there - budget)} more than budget.disk, "
        f"{size(budget)}{of_all_seeds(run.path)}",
        next=f"{gc}; or raise budget.disk" if gc else "raise budget.disk",
    )


def say_over_budget(run: RunFolder, report: Reporter) -> None:
    """Say so, if it is."""
    if over := over_budget(run):
        report.say(f"{over.reason}\nnext: {over.next}")


def _sampled_share(run: RunFolder, j: int, codec: CodecName) -> float | None:
    """What the plan's sample of x_{j+1} says that a codec leaves of it."""
    return run.shares.get(place_of(run, j + 1), {}).get(codec)


def check_first_output(run: RunFolder, j: int, report: Reporter) -> None:
    """Raise DiskError where x_{j+1} can hardly fit, before stage j is trained; where nobody can know, say its bound."""
    (due, there), free = _due(run, j), room(run.path, _budget(run))
    needed = due.nbytes - there.nbytes
    if needed <= free:
        return
    share, how = _known_share(run, j)
    if share is None:
        report.say(
            f"x_{j + 1} may not fit: at most {size(needed)} before compression, which nothing is known of yet, "
            f"and {described_room(run.path, _budget(run))}"
        )
    elif share * due.nbytes - there.nbytes > free:
        raise DiskError(
            f"x_{j + 1} will need {size(share * due.nbytes - there.nbytes)} ({how}), "
            f"and {described_room(run.path, _budget(run))}\n"
            f"next: {_remedy(run, j)}"
        )


def _budget(run: RunFolder) -> int | None:
    return budget_bytes(run.config.budget.disk)


def _due(run: RunFolder, j: int) -> tuple[StoreSize, StoreSize]:
    """What the splits of x_{j+1} that are not committed yet take before compression, and what is there of them."""
    due = [split for split in run.splits if not is_committed(run.store(j + 1, split))]
    needed = sum((_whole_size(run, j, split) for split in due), NOTHING)
    return needed, sum((folder_size(run.store(j + 1, split)) for split in due), NOTHING)


def _whole_size(run: RunFolder, j: int, split: str) -> StoreSize:
    """The same as `output_size` with all that a plan reckons with."""
    own, whole = output_size(run, j, split), unwritten_split(run.outline, j + 1, split, {}, "none", run=run)
    return replace(own, rest=whole.nbytes - own.nbytes)


def _known_share(run: RunFolder, j: int) -> tuple[float | None, str]:
    """What compression leaves of x_{j+1}, and where that is known from; None where nothing says it.

    Nothing less without a codec; as much as of what is written of it, else as of the nearest store like it.
    """
    config = run.config.for_stage(j).store
    if config.codec == "none":
        return 1.0, "not compressed"
    if (share := _written_share(run, j)) is not None:
        return share, f"compressed to {share:.0%}, as what is written of it"
    for i in range(j, 0, -1):
        if run.is_stored(i) and run.config.for_stage(i - 1).store.encoding == config.encoding:
            store: Store = run.open_store(i, "train")
            if config.codec in ("auto", store.codec):
                share = store.nbytes / output_size(run, i - 1, "train").nbytes
                return share, f"compressed to {share:.0%}, as the last x_j was"
    return None, ""


def _written_share(run: RunFolder, j: int) -> float | None:
    """What compression leaves of the training samples of x_{j+1} that are written, where some are."""
    path, whole = run.store(j + 1, "train"), output_size(run, j, "train")
    codec = run.config.for_stage(j).store.codec
    if is_committed(path):
        store = run.open_store(j + 1, "train")
        return store.nbytes / whole.nbytes if codec in ("auto", store.codec) else None
    begun, chunks = read_journal(path) or (None, {})
    if begun is None or not chunks or begun.fingerprint != run.fingerprint(j + 1, "train"):
        return None
    written = len(chunks) * whole.nbytes / (whole.files - SMALL_FILES)
    nbytes = sum(chunk.length for chunk in chunks.values())
    return nbytes / written if codec in ("auto", begun.codec) else None


@contextmanager
def naming_full_disk(run: RunFolder, j: int) -> Iterator[None]:
    """Say of a disk that fills up while stage j works what is still to be written, what is free, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        at, left = f" at {error.filename}" if error.filename else "", described_room(run.path, _budget(run))
        raise DiskError(
            f"the disk is full{at}: {_still_needed(run, j)}{left}; what was committed is intact\n"
            f"next: {_remedy(run, j)}"
        ) from error


def _still_needed(run: RunFolder, j: int) -> str:
    """Of x_{j+1}, where that is what is written."""
    if run.stages[j].record is None or run.is_stored(j + 1):
        return ""
    (due, there), (share, how) = _due(run, j), _known_share(run, j)
    if share is None:
        return f"x_{j + 1} needs at most {size(due.nbytes - there.nbytes)} more, before compression, and "
    return f"x_{j + 1} needs {size(max(share * due.nbytes - there.nbytes, 0))} more ({how}), and "


def _remedy(run: RunFolder, j: int) -> str:
    """What would make room for x_{j+1}, or less of it: neither what is set already, nor what is not in force."""
    advice = [freeable(run) or "make room on that disk", f"set cache.keep to {_other_keeps(run)}", *_smaller(run, j)]
    return f"{'; or '.join(advice)}; then the same command goes on"


def _other_keeps(run: RunFolder) -> str:
    """Values of cache.keep that store less."""
    match run.config.cache.keep:
        case "all":
            return '"auto", "needed", to fewer x_j, or to "none"'
        case "needed":
            return 'a few x_j, or to "none"'
    return 'fewer x_j, or to "none"'


def _smaller(run: RunFolder, j: int) -> list[str]:
    """Settings that make x_{j+1} smaller; those of the method train anew."""
    store, augment = run.config.for_stage(j).store, run.config.augment
    smaller = ENCODINGS[ENCODINGS.index(store.encoding) + 1 :]
    method = [
        f"a smaller store.encoding ({', '.join(smaller)})" if smaller else "",
        "fewer augment.views" if augment.policy == "views" and augment.views > 1 else "",
        "fewer augment.phases" if augment.policy == "canvas" and augment.phases > 1 else "",
    ]
    anew = ", or ".join(filter(None, method))
    codec = "set store.codec to zstd" if store.codec != "zstd" else ""
    return list(filter(None, [codec, f"train anew with {anew}" if anew else ""]))
