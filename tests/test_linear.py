"""Linear separability: what is averaged, chosen and counted."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from cache import BudgetError
from pipeline.device import choose_device
from pipeline.errors import Stopped
from pipeline.experiments import linear, probes
from pipeline.experiments.linear import fit_linear
from pipeline.experiments.probes import cnn_problem, probe_folder, read_probe
from pipeline.experiments.probing import Probed, probes_table
from pipeline.feed import Feed
from pipeline.progress import Reporter
from pipeline.runfolder import RunFolder
from pipeline.stopping import never
from pipeline.training import train_stage
from tests.runs import digits_run, reopened, tiny_run

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """One stage of a network on digits, trained."""
    run = digits_run(tmp_path_factory.mktemp("linear") / "run", "network.precision=float32", "cache.keep=all")
    train_stage(run, 0, CPU, Reporter())
    return run


def features(run: RunFolder, j: int, count: int = 200) -> np.ndarray:
    return linear._features(run, j, CPU, count, never)[0]


def test_what_is_classified_is_the_average_over_quadrants() -> None:
    x = torch.arange(32.0).view(1, 2, 4, 4)
    expected = [[x[0, c, h : h + 2, w : w + 2].mean().item() for c in (0, 1) for h in (0, 2) for w in (0, 2)]]
    assert linear._averaged(x).tolist() == expected


def test_training_samples_are_seen_in_the_test_time_window_whether_x_j_is_stored_or_not(run: RunFolder) -> None:
    images = Feed(run, 0, CPU).sequential("train", linear._averaged, limit=200)
    assert np.array_equal(features(run, 0), np.concatenate([z.numpy() for z, _ in images]))
    assert run.is_stored(1)
    through = Feed(run, 1, CPU, anchor=0).sequential("train", linear._averaged, limit=200)
    assert np.array_equal(features(run, 1), np.concatenate([z.numpy() for z, _ in through]))


@pytest.mark.parametrize("policy", ["none", "canvas"])
def test_a_store_gives_the_features_that_the_images_give(tmp_path: Path, policy: str) -> None:
    settings = ("network.precision=float32", f"augment.policy={policy}", "cache.keep=all")
    run = digits_run(tmp_path / "run", *settings)
    train_stage(run, 0, CPU, Reporter())
    through = Feed(run, 1, CPU, anchor=0).sequential("train", linear._averaged, limit=200)
    assert run.anchor(1) == 1
    assert np.array_equal(features(run, 1), np.concatenate([z.numpy() for z, _ in through]))


def test_standardised_features_have_mean_0_and_deviation_1_and_constant_ones_are_0() -> None:
    x = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    x[:, 2] = 7
    before = x.copy()
    mean, deviation = linear._standardise(x)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(0), [1, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(x * deviation + mean, before, rtol=1e-5)


def test_each_class_is_fitted_against_the_rest_as_scikit_learn_does() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    random = np.random.default_rng(0)
    y = random.integers(0, 3, 300)
    x = (random.normal(size=(300, 5)) + np.eye(3, 5)[y]).astype(np.float32)
    (weights, bias, left), *_ = linear._fitted(x, y, 3, [0.1], never, "linear")
    expected = OneVsRestClassifier(LogisticRegression(C=0.1, max_iter=300, tol=1e-6)).fit(x, y)
    theirs = np.stack([one.decision_function(x) for one in expected.estimators_], 1)
    np.testing.assert_allclose(linear._decisions(x, weights, bias), theirs, atol=0.02)
    assert left == 0


def test_a_class_without_samples_is_never_chosen() -> None:
    x, y = np.eye(4, dtype=np.float32), np.array([0, 0, 2, 2])
    (weights, bias, _), *_ = linear._fitted(x, y, 3, [1.0], never, "linear")
    assert set(linear._decisions(x, weights, bias).argmax(1)) == {0, 2}


def test_c_is_chosen_on_samples_that_were_not_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def fitted(x: np.ndarray, y: np.ndarray, *_: object) -> list[linear.Fit]:
        seen.append(len(x))
        good, bad = np.eye(2), -np.eye(2)
        return [(good if c == 0.1 else bad, np.zeros(2), 0) for c in linear.CS]

    monkeypatch.setattr(linear, "_fitted", fitted)
    y = np.arange(20) % 2
    x = np.eye(2, dtype=np.float32)[y]
    x[:16] = 1 - x[:16]  # on which the others are right
    c, accuracies = linear._chosen(x, y, 2, never, "linear")
    assert (c, seen) == (0.1, [16])
    assert accuracies == {f"{one:g}": 100 if one == 0.1 else 0 for one in linear.CS}


def test_each_split_is_scored_by_what_was_fitted_on_all_training_samples(run: RunFolder) -> None:
    record = fit_linear(run, 0, CPU, Reporter(), should_stop=never)
    found = {split: list(Feed(run, 0, CPU).sequential(split, linear._averaged)) for split in run.splits}
    x = {split: np.concatenate([z.numpy() for z, _ in parts]) for split, parts in found.items()}
    y = {split: np.concatenate([labels.numpy() for _, labels in parts]) for split, parts in found.items()}
    standard = x["train"].copy()
    mean, deviation = linear._standardise(standard)
    ((weights, bias, _),) = linear._fitted(standard, y["train"], 10, [record.c], never, "linear")

    def by_hand(split: str) -> float:
        decisions = (x[split] - mean) / deviation @ weights.T + bias
        return 100 * float((decisions.argmax(1) == y[split]).mean())

    assert record.train_accuracy == pytest.approx(by_hand("train"), abs=0.01)
    assert record.validation_accuracy == pytest.approx(by_hand("validation"), abs=0.01)
    assert record.test_accuracy == pytest.approx(by_hand("test"), abs=0.01)
    assert abs(by_hand("validation") - by_hand("test")) > 0.1, "one in place of the other would show"
    assert record.c != linear.CS[0]
    assert record.samples == run.info.samples["train"]
    assert read_probe(run, 0, "linear") == record


def test_a_probe_of_other_constants_is_another(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    key = probe_folder(run, 0, "linear").key
    monkeypatch.setattr(probes, "ALGORITHM", probes.ALGORITHM + 1)
    assert probe_folder(run, 0, "linear").key != key
    assert probe_folder(run, 0, "cnn-1").key == cnn_problem(run, 0, "cnn-1").key


def test_a_c_at_the_edge_of_those_that_were_tried_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(linear, "CS", (1e-6, 1e-5))
    run = digits_run(tmp_path / "run")
    record = fit_linear(run, 0, CPU, Reporter(), should_stop=never)
    said = f"C = {record.c:g} is the {'least' if record.c == 1e-6 else 'largest'} that was tried"
    assert record.edge == said
    assert said in capsys.readouterr().err
    assert probes_table(run, [Probed(0, "linear", record)]).endswith(f"\nlinear on x_0: {said}")
    between = msgspec.structs.replace(record, c=1.0, held_out_accuracy={"0.1": 1.0, "1": 3.0, "10": 2.0})
    assert between.edge == ""


def test_features_without_room_in_the_hosts_memory_are_refused(run: RunFolder) -> None:
    with pytest.raises(
        BudgetError, match=r"linear on x_0: 4 numbers of 1,299 samples .*\nnext: fewer .* --samples 625"
    ):
        fit_linear(reopened(run.path, "budget.host=10000"), 0, CPU, Reporter(), should_stop=never)


def test_a_stopped_probe_keeps_nothing(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    with pytest.raises(Stopped):
        fit_linear(run, 0, CPU, Reporter(), should_stop=lambda: True)
    assert read_probe(run, 0, "linear") is None
    assert not (run.path / "probes").exists()
