"""Room on the disk for x_{j+1}: how much of it a config's stores take, and what to do where there is too little."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from cache import CodecName, Store
from pipeline.budget import stored_sample_bytes
from pipeline.config import budget_bytes
from pipeline.disk import NOTHING, StoreSize, check_room, described_room, folder_size, room, store_size
from pipeline.errors import DiskError
from pipeline.progress import Reporter, size
from pipeline.runfolder import RunFolder, is_committed


def output_size(run: RunFolder, j: int, split: str) -> StoreSize:
    """What x_{j+1} of a split takes before compression."""
    return store_size(
        samples=run.info.samples[split],
        views=run.config.augment.stored_views if split == "train" else 1,
        sample_bytes=stored_sample_bytes(run, j + 1),
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
    check_room(what, run.path, needed, codec, sample, there=there, budget=_budget(run), remedy=_remedy(run))


def check_first_output(run: RunFolder, j: int, report: Reporter) -> None:
    """Raise DiskError where x_{j+1} can hardly fit, before stage j is trained; where nobody can know, say its bound."""
    (due, there), free = _due(run, j), room(run.path, _budget(run))
    needed = due.nbytes - there.nbytes
    if needed <= free:
        return
    share = _known_share(run, j)
    if share is None:
        report.say(
            f"x_{j + 1} may not fit: at most {size(needed)} before compression, which nothing is known of yet, "
            f"and {described_room(run.path, _budget(run))}"
        )
    elif share * due.nbytes - there.nbytes > free:
        how = "not compressed" if share == 1 else f"compressed to {share:.0%}, as the last x_j was"
        raise DiskError(
            f"x_{j + 1} will need {size(share * due.nbytes - there.nbytes)} ({how}), "
            f"and {described_room(run.path, _budget(run))}\n"
            f"next: {_remedy(run)}"
        )


def _budget(run: RunFolder) -> int | None:
    return budget_bytes(run.config.budget.disk)


def _due(run: RunFolder, j: int) -> tuple[StoreSize, StoreSize]:
    """What the splits of x_{j+1} that are not committed yet take before compression, and what is there of them."""
    due = [split for split in run.splits if not is_committed(run.store(j + 1, split))]
    needed = sum((output_size(run, j, split) for split in due), NOTHING)
    return needed, sum((folder_size(run.store(j + 1, split)) for split in due), NOTHING)


def _known_share(run: RunFolder, j: int) -> float | None:
    """What compression leaves of x_{j+1}: nothing less without a codec, as much as of the nearest store like it."""
    config = run.config.for_stage(j).store
    if config.codec == "none":
        return 1.0
    for i in range(j, 0, -1):
        if run.is_stored(i) and run.config.for_stage(i - 1).store.encoding == config.encoding:
            store: Store = run.open_store(i, "train")
            if config.codec in ("auto", store.codec):
                return store.nbytes / output_size(run, i - 1, "train").nbytes
    return None


def _remedy(run: RunFolder) -> str:
    return (
        f'{run.command("gc")} says what can be freed; or set cache.keep to "auto", "needed" or fewer x_j, or another '
        f"store.codec or store.encoding, or fewer augment.views; then the same command goes on"
    )
