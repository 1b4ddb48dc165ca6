"""Which images of a data set are in which split, and in what order."""

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Data
from pipeline.draws import Purpose, draw, permutation
from pipeline.errors import ConfigError
from pipeline.sources import Source


def split_indices(source: Source, data: Data) -> dict[str, NDArray[np.int64]]:
    """Sample ids of every split in stored order: training permuted, a share of each class held out, test as it is.

    At least one image of each class stays to train on. Raises ConfigError where the share is less than any image.
    """
    order = permutation(len(source.train.labels), data.seed, Purpose.INGEST_ORDER)
    labels = source.train.labels[order]
    held = np.zeros(len(order), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(round(data.validation * len(members)), len(members) - 1)
        rank = np.argsort(draw(data.seed, Purpose.HOLD_OUT, int(label), np.arange(len(members))), kind="stable")
        held[members[rank[:count]]] = True
    if data.validation and not held.any():
        largest = np.bincount(labels).max()
        raise ConfigError(
            f"data.validation = {data.validation} holds out no image: no class has more than {largest}; "
            f"take a larger share, or 0 to train without validation"
        )
    splits = {"train": order[~held], "validation": order[held], "test": np.arange(len(source.test.labels))}
    return {name: ids for name, ids in splits.items() if len(ids)}
