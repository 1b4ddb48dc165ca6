"""Linear classification of features, as in the paper's transfer: PCA, then multinomial logistic regression by SAGA.

Both are scikit-learn's with its defaults, but for the number of components.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import Purpose, permutation

COMPONENTS = 500
"""Of the PCA, the paper's; less where there are less features or training images."""

Parts = Callable[[], Iterable[NDArray[np.float32]]]
"""The features of all images in order, (n, C) at a time; called for each pass over them."""


@dataclass(frozen=True)
class Fold:
    """What came of one split."""

    accuracy: float
    """Percent, the mean of the classes' accuracies."""
    components: int
    """Of the PCA."""
    converged: bool
    """Whether SAGA did, within scikit-learn's default of 100 passes."""


def training_rows(labels: NDArray[np.int64], per_class: int, *, seed: int, split: int) -> NDArray[np.bool_]:
    """Whether each image is one of the `per_class` of its class that a split trains on."""
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = permutation(len(members), seed, Purpose.TRANSFER_SPLIT, split, int(label))
        chosen[members[order[:per_class]]] = True
    return chosen


def fold(parts: Parts, labels: NDArray[np.int64], chosen: NDArray[np.bool_], *, state: int) -> Fold:
    """Fit on the chosen rows, PCA too, and score on all others. Only the chosen rows are held at a time."""
    rows = _sliced(chosen, parts)
    x = np.concatenate([part[own] for part, own in rows])
    components = min(COMPONENTS, *x.shape)
    model, converged = _fitted(x, labels[chosen], components, state)
    hits, counts = np.zeros(labels.max() + 1), np.zeros(labels.max() + 1)
    first = 0
    for part, own in _sliced(chosen, parts):
        y = labels[first : first + len(part)][~own]
        first += len(part)
        if len(y):
            hits += np.bincount(y[model.predict(part[~own]) == y], minlength=len(hits))
            counts += np.bincount(y, minlength=len(counts))
    return Fold(100 * float(np.mean(hits / counts)), components, converged)


def _sliced(chosen: NDArray[np.bool_], parts: Parts) -> Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Each part with its rows of `chosen`."""
    first = 0
    for part in parts():
        yield part, chosen[first : first + len(part)]
        first += len(part)


def _fitted(x: NDArray[np.float32], y: NDArray[np.int64], components: int, state: int) -> tuple[Any, bool]:
    """The fitted pipeline, and whether its optimiser converged."""
    import warnings

    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(PCA(components, random_state=state), LogisticRegression(solver="saga", random_state=state))
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):  # of features that are all the same: 0 / 0 variance
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    last = model[-1]
    return model, bool(np.max(last.n_iter_) < last.max_iter)
