"""PCA and logistic regression on features: what is trained on, what is scored, and how."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from pipeline.experiments import folds
from pipeline.experiments.folds import COMPONENTS, fold, training_rows

LABELS = np.arange(90) % 3
NOISE = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
X = (NOISE + 2 * np.eye(6, dtype=np.float32)[LABELS]).astype(np.float32)


def in_parts(x: NDArray[np.float32], size: int = 90) -> Iterator[NDArray[np.float32]]:
    return (x[first : first + size] for first in range(0, len(x), size))


def test_so_many_of_each_class_are_trained_on_and_others_in_each_split() -> None:
    labels = np.repeat([0, 1, 2], [5, 50, 9])
    splits = [training_rows(labels, 4, seed=0, split=split) for split in range(3)]
    assert [np.bincount(labels[chosen]).tolist() for chosen in splits] == [[4, 4, 4]] * 3
    assert len({chosen.tobytes() for chosen in splits}) == 3
    assert np.array_equal(training_rows(labels, 4, seed=0, split=1), splits[1])
    assert not np.array_equal(training_rows(labels, 4, seed=1, split=1), splits[1])


def test_it_is_scikit_learns_pca_and_saga_on_the_chosen_rows() -> None:
    chosen = training_rows(LABELS, 10, seed=0, split=0)
    pca = PCA(6, random_state=3).fit(X[chosen])
    model = LogisticRegression(solver="saga", random_state=3).fit(pca.transform(X[chosen]), LABELS[chosen])
    right = model.predict(pca.transform(X[~chosen])) == LABELS[~chosen]
    expected = 100 * np.mean([right[LABELS[~chosen] == label].mean() for label in range(3)])
    found = fold(lambda: in_parts(X), LABELS, chosen, state=3)
    assert 50 < found.accuracy < 100
    assert found.accuracy == pytest.approx(expected)
    assert (found.components, found.converged) == (6, True)


def test_nothing_is_fitted_on_what_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, seen, fitted = training_rows(LABELS, 10, seed=0, split=0), [], folds._fitted

    def watched(x: NDArray[np.float32], *rest: object) -> object:
        seen.append(x)
        return fitted(x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(folds, "_fitted", watched)
    fold(lambda: in_parts(X), LABELS, chosen, state=0)
    assert np.array_equal(seen[0], X[chosen])


def test_directions_of_the_pca_are_the_chosen_rows_and_fewer_than_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "COMPONENTS", 4)
    noise = np.random.default_rng(1).normal(size=(90, 40))
    wide = (noise + 1.5 * np.eye(40)[LABELS]).astype(np.float32)
    chosen = training_rows(LABELS, 10, seed=0, split=0)

    def accuracy(pca: PCA | None) -> float:
        x = wide if pca is None else pca.transform(wide)
        model = LogisticRegression(solver="saga", max_iter=1000, random_state=3).fit(x[chosen], LABELS[chosen])
        right = model.predict(x[~chosen]) == LABELS[~chosen]
        return 100 * float(np.mean([right[LABELS[~chosen] == label].mean() for label in range(3)]))

    expected = accuracy(PCA(4, random_state=3).fit(wide[chosen]))
    found = fold(lambda: in_parts(wide), LABELS, chosen, state=3)
    assert found.components == 4
    assert found.accuracy == pytest.approx(expected)
    others = [accuracy(PCA(4, random_state=3).fit(wide)), accuracy(PCA(40).fit(wide)), accuracy(None)]
    assert all(abs(other - expected) > 1 for other in others), "directions of all rows, or no PCA, would show"


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_parts_that_features_come_in_change_nothing(size: int) -> None:
    chosen = training_rows(LABELS, 10, seed=0, split=0)
    assert fold(lambda: in_parts(X, size), LABELS, chosen, state=0) == fold(
        lambda: in_parts(X), LABELS, chosen, state=0
    )


def test_every_class_counts_the_same_however_many_images_it_has() -> None:
    labels = np.repeat([0, 1], [104, 5])
    x = np.repeat([[-1.0], [1.0]], [104, 5], axis=0).astype(np.float32)
    chosen = training_rows(labels, 4, seed=0, split=0)
    x[~chosen & (labels == 1)] = -1  # the one image of class 1 that is scored looks like class 0
    assert fold(lambda: in_parts(x), labels, chosen, state=0).accuracy == 50


def test_no_more_components_than_features_training_images_or_the_papers() -> None:
    wide = np.random.default_rng(0).normal(size=(90, 700)).astype(np.float32)
    chosen = training_rows(LABELS, 10, seed=0, split=0)
    assert fold(lambda: in_parts(wide), LABELS, chosen, state=0).components == 30
    many, labels = np.random.default_rng(0).normal(size=(1300, 520)).astype(np.float32), np.arange(1300) % 2
    chosen = training_rows(labels, 600, seed=0, split=0)
    assert fold(lambda: in_parts(many), labels, chosen, state=0).components == COMPONENTS == 500


def test_features_that_are_all_the_same_are_chance_and_no_crash() -> None:
    chosen = training_rows(LABELS, 10, seed=0, split=0)
    same = np.ones((90, 4), np.float32)
    assert fold(lambda: in_parts(same), LABELS, chosen, state=0).accuracy == pytest.approx(100 / 3)
