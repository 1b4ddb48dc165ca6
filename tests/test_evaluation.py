"""Scores of outputs: top 1, top 5, and balanced over classes."""

from pathlib import Path

import pytest
import torch

from pipeline.errors import CorruptDataError
from pipeline.evaluation import _scoring, score
from pipeline.record import StageRecord


def test_top_1_is_the_share_of_samples_whose_largest_output_is_the_labels() -> None:
    logits = torch.tensor([[2.0, 1, 0], [0, 3, 1], [0, 1, 5], [9, 0, 0]])
    scores = score(logits, torch.tensor([0, 1, 0, 0]), classes=3)
    assert scores.top1 == 75
    assert scores.per_class[0] == pytest.approx(200 / 3)
    assert scores.per_class[1:] == (100, None)


def test_balanced_accuracy_counts_every_class_alike_and_leaves_out_absent_ones() -> None:
    y = torch.tensor([0] * 98 + [1] * 2)
    always_0 = score(torch.tensor([[1.0, 0, 0]]).repeat(100, 1), y, classes=3)
    assert always_0.top1 == pytest.approx(98)
    assert always_0.per_class == (100, 0, None)
    assert always_0.balanced == 50


def test_top_5_counts_labels_among_the_five_largest_outputs() -> None:
    logits = torch.arange(7.0).repeat(7, 1)
    scores = score(logits, torch.arange(7), classes=7)
    assert scores.top1 == pytest.approx(100 / 7)
    assert scores.top5 == pytest.approx(500 / 7)


def test_a_percentage_is_that_of_whole_numbers_to_the_last_digit() -> None:
    for hits in range(0, 100, 7):
        scores = score(torch.eye(6)[[0] * 100], torch.tensor([0] * hits + [5] * (100 - hits)), classes=6)
        assert (scores.top1, scores.top5 in (hits, 100)) == (hits, True)


@pytest.mark.parametrize("accuracy", [69.9999988079071, 70.0])
def test_outputs_fit_a_record_whose_accuracy_was_rounded_otherwise(accuracy: float) -> None:
    y, kept = torch.tensor([0] * 70 + [1] * 30), {"logits": torch.eye(2)[[0] * 100]}
    assert _scoring(scored(accuracy), kept, Path("kept"), y, 2, "again") is kept["logits"]
    with pytest.raises(CorruptDataError, match=r"kept does not hold the outputs that scored 70\.00%"):
        _scoring(scored(accuracy), {"logits": kept["logits"].flip(1)}, Path("kept"), y, 2, "again")


def scored(accuracy: float) -> StageRecord:
    """A record of this test accuracy."""
    return StageRecord(
        j=0,
        key="",
        fields={},
        parameters={},
        train_accuracy=0,
        validation_accuracy=None,
        test_accuracy=accuracy,
        balanced_test_accuracy=0,
        seconds=0,
        peak_memory_bytes=0,
        device="cpu",
        machine={},
        sessions=[],
        content={},
        metrics="",
    )


@pytest.mark.parametrize(("classes", "is_given"), [(2, False), (5, False), (6, True), (10, True)])
def test_top_5_is_given_from_six_classes_on(classes: int, is_given: bool) -> None:
    scores = score(torch.eye(classes), torch.arange(classes), classes=classes)
    assert scores.top5 == (100 if is_given else None)
    assert scores.top1 == scores.balanced == 100


def test_scores_agree_with_counting_by_hand() -> None:
    torch.manual_seed(0)
    logits, y = torch.randn(500, 8), torch.randint(0, 8, (500,))
    scores = score(logits, y, classes=8)
    ranks = [int((row > row[label]).sum()) for row, label in zip(logits, y, strict=True)]
    assert scores.top1 == pytest.approx(sum(rank < 1 for rank in ranks) / 5, rel=1e-6)
    assert scores.top5 == pytest.approx(sum(rank < 5 for rank in ranks) / 5, rel=1e-6)
    for label, accuracy in enumerate(scores.per_class):
        own = [rank == 0 for rank, other in zip(ranks, y.tolist(), strict=True) if other == label]
        assert accuracy == pytest.approx(100 * sum(own) / len(own))
