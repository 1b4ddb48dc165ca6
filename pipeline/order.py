"""In which order a stage sees its samples: a pure function of (seed, stage, epoch) and of the config's [order].

Samples were permuted once at ingest. Here runs of consecutive samples are permuted, a window of several runs is
mixed, and the next window follows. The trade-off against a full shuffle: samples of one run always fall into the same
window, and the host holds two windows whatever the size of the store. Runs are the method's, chunks are the store's:
no size of a chunk, thread count or budget reaches this page, so none can change a result.
"""

from collections.abc import Iterator

import numpy as np

from cache import Run, Window
from pipeline.draws import Purpose, below, draw, permutation


def training_windows(
    samples: int, *, run: int, window: int, views: int, seed: int, stage: int, epoch: int
) -> Iterator[Window]:
    """The windows of one epoch: every sample once.

    Each run shows one of its `views` an epoch, the next one in the next epoch, from a start drawn for each run, so
    that after `views` epochs every view of every sample was seen once.
    """
    order = permutation(-(-samples // run), seed, Purpose.RUN_ORDER, stage, epoch)
    view = (below(views, draw(seed, Purpose.RUN_VIEW, stage, np.arange(len(order)))) + epoch) % views
    for number, start in enumerate(range(0, len(order), window // run)):
        runs = tuple(
            Run(int(view[r]), int(r) * run, min(run, samples - int(r) * run))
            for r in order[start : start + window // run]
        )
        total = sum(r.count for r in runs)
        yield Window(runs, permutation(total, seed, Purpose.SAMPLE_ORDER, stage, epoch, number))


def sequential_windows(samples: int, *, run: int, window: int, view: int = 0) -> Iterator[Window]:
    """All samples of one view in stored order."""
    for start in range(0, samples, window):
        stop = min(start + window, samples)
        runs = tuple(Run(view, first, min(run, stop - first)) for first in range(start, stop, run))
        yield Window(runs, np.arange(stop - start))
