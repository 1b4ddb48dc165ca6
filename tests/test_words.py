"""A config in words."""

from pathlib import Path

import pytest

from pipeline.experiments.report.words import described, of_training
from tests.runs import reopened, tiny_run


def test_a_config_is_told_in_words(tmp_path: Path) -> None:
    said = dict(described([tiny_run(tmp_path / "run", "head.k=3", "stages.1.train.lr=0.05")]))
    assert said["Images"].startswith(f"From npz:{tmp_path / 'run' / 'images.npz'}: 27 train, 3 validation, ")
    assert "10% of each training class held out" in said["Images"]
    assert said["Blocks"].startswith(
        "2 blocks of one 3 × 3 convolution, 4 to 8 channels, invertible down-sampling at j = 1"
    )
    assert said["Heads"] == "k = 3: 2 convolutions of 4 to 8 channels, the 2 × 2 average and a linear layer."
    assert (
        "Each stage for 2 epochs by SGD in batches of 8, learning rate 0.1, times 0.2 every 1 epochs"
        in said["Training"]
    )
    assert said["By stage"] == "stage 1: train.lr = 0.05."


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("augment.policy=none",), "see one rendering"),
        (("augment.policy=recompute",), "draw anew"),
        (("augment.policy=canvas", "augment.flip=true"), "and its mirror image"),
        (("augment.views=3",), "see 3 stored draws"),
    ],
)
def test_every_policy_is_told_of(tmp_path: Path, settings: tuple[str, ...], words: str) -> None:
    assert words in dict(described([tiny_run(tmp_path / "run", *settings)]))["Augmentation"]


def test_all_seeds_are_named_once(tmp_path: Path) -> None:
    runs = [tiny_run(tmp_path / str(seed), f"seed={seed}") for seed in (3, 4)]
    assert dict(described(runs))["Seeds"] == "3, 4 of weights, order and augmentation; 0 of the order of the data."


@pytest.mark.parametrize(
    ("settings", "what", "words"),
    [
        (("network.residual=true",), "Blocks", "batch norm, the input added where a block keeps its shape; precision"),
        (("train.schedule=cosine",), "Training", "learning rate 0.1, falling to 0 by half a cosine, momentum 0.9, w"),
        (("train.label_smoothing=0.1",), "Training", "weight decay 0.0005, label smoothing 0.1; "),
        (("train.keep=best",), "Training", "at a time. The point of least training risk is kept."),
        (("augment.cutout=2",), "Augmentation", "a square of 2 × 2 pixels cut out; stages past"),
        (("compress.keep=0.5",), "Compression", "from stage 0 on: 4 → 2, 8 → 4; the head is then tuned for 20 epochs"),
        (("stages.1.compress.keep=0.5",), "By stage", "stage 1: compress.keep = 0.5."),
    ],
)
def test_what_is_not_the_papers_code_is_told(tmp_path: Path, settings: tuple[str, ...], what: str, words: str) -> None:
    assert words in dict(described([tiny_run(tmp_path / "run", *settings)]))[what]


def test_what_training_accuracies_are_over_is_told_of_all_runs(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    best = reopened(run.path, "train.keep=best")
    plain = reopened(run.path, "augment.padding=0", "augment.policy=none")
    assert of_training([run]) == "the augmented training images of its last epoch"
    assert of_training([plain]) == "the training images of its last epoch"
    assert of_training([best]) == "all training images at the point that is kept"
    assert of_training([best, plain]) == (
        "the augmented training images of its last epoch, or all training images at the point that is kept"
    )
