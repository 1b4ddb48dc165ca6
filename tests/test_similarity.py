"""The local similarity loss: its value, whom it trains, and that parts of a batch add up to it."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cascade import Block, Head, SimilarityFeatures, similarity_loss, training_forward
from cascade.similarity import similarities
from pipeline.checkpoint import Progress
from pipeline.errors import ConfigError
from pipeline.experiments.end_to_end import end_to_end
from pipeline.experiments.probes import cnn_problem
from pipeline.learner import Learner, make_learner
from pipeline.microbatch import check_micro_batch, micro_batches
from pipeline.networks import load_network
from pipeline.peak import predicted_peak, stage_work
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
from pipeline.refits import find_refits, with_last_head
from pipeline.runfolder import RunFolder
from pipeline.step import train_step
from pipeline.training import train_stage
from tests.runs import reopened, tiny_run

CPU = torch.device("cpu")
NORM = ("network.bn_group=32", "train.batch_size=128", "network.precision=float32")


def correlation(a: list[float], b: list[float]) -> float:
    """Of two vectors, number by number."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    products = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    lengths = (sum((x - mean) ** 2 for x in v) for v, mean in ((a, mean_a), (b, mean_b)))
    return products / math.sqrt(math.prod(lengths))


def by_hand(features: list[list[float]], y: list[int], classes: int) -> float:
    """The mean over pairs of (similarity of features - that of labels)^2."""
    total = 0.0
    for i, one in enumerate(features):
        for k, other in enumerate(features):
            total += (correlation(one, other) - (1.0 if y[i] == y[k] else -1 / (classes - 1))) ** 2
    return total / len(features) ** 2


def learner_of(run: RunFolder, *, recompute: bool = False) -> Learner:
    learner = make_learner(run, stage_problem(run, 0), CPU, recompute=recompute)
    learner.train(True)
    return learner


def batch(samples: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(samples, 1, 8, 8, generator=generator), torch.arange(samples) * 5 // 3 % classes


def stepped(learner: Learner, x: Tensor, y: Tensor, size: int) -> tuple[float, dict[str, Tensor]]:
    """Loss of a step in parts of a size, and weights and momentum after it."""
    progress = Progress.fresh(CPU)
    parts = zip(x.split(size), y.split(size), strict=True)  # type: ignore[no-untyped-call]
    train_step(learner, parts, len(x), torch.float32, progress)
    return progress.loss.item(), learner.tensors()


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_loss_is_that_of_the_paper_pair_by_pair(classes: int) -> None:
    torch.manual_seed(0)
    features, y = torch.rand(9, 5), torch.arange(9) % classes
    expected = by_hand(features.tolist(), y.tolist(), classes)
    assert similarity_loss(features, y, classes=classes).item() == pytest.approx(9 * expected, rel=1e-4)


def test_features_that_follow_the_classes_cost_nothing_and_others_do() -> None:
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    perfect = torch.eye(3)[y] * torch.tensor([[3.0], [1.0], [0.1], [2.0], [5.0], [7.0]])
    assert similarity_loss(perfect, y, classes=3).item() == pytest.approx(0, abs=1e-6)
    assert similarity_loss(perfect.roll(1, 0)[[0, 2, 1, 3, 4, 5]], y, classes=3).item() > 1


def test_features_are_deviations_over_the_pixels_of_a_convolution() -> None:
    made, x = SimilarityFeatures(4), torch.randn(3, 4, 6, 6)
    assert [name for name, _ in made.named_parameters()] == ["conv.weight"]
    pixels = torch.nn.functional.conv2d(x, made.conv.weight, padding=1).flatten(2)
    expected = ((pixels - pixels.mean(2, keepdim=True)).square().sum(2) / 35).sqrt()
    torch.testing.assert_close(made(x), expected)
    assert made(torch.randn(3, 4, 1, 1)).shape == (3, 4)
    assert made(x.bfloat16().float()).dtype == torch.float32


def test_similarities_are_as_fine_under_autocast() -> None:
    features = torch.rand(16, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = similarities(features)
    assert torch.equal(under, similarities(features))


@pytest.mark.parametrize("features", [torch.zeros(8, 4), torch.ones(8, 1)])
def test_features_that_are_all_equal_have_a_gradient_that_is_a_number(features: Tensor) -> None:
    features.requires_grad_()
    similarity_loss(features, torch.arange(8) % 2, classes=2).backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_pairs_are_within_a_group_and_the_last_may_be_smaller() -> None:
    features, y = torch.rand(20, 6), torch.arange(20) % 3
    whole = similarity_loss(features, y, classes=3, group=8)
    parts = [similarity_loss(features[i : i + 8], y[i : i + 8], classes=3) for i in (0, 8, 16)]
    torch.testing.assert_close(whole, torch.stack(parts).sum())
    assert not torch.isclose(whole, similarity_loss(features, y, classes=3))


def test_loss_of_a_step_is_the_mix_that_the_config_says(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "head.similarity=0.75", "network.precision=float32")
    learner = learner_of(run)
    x, y = batch(8, run.classes)
    block, head = copy.deepcopy((learner.block, learner.head))
    h = block(x)
    assert head.similarity is not None
    compared = similarity_loss(head.similarity(h), y, classes=run.classes)
    expected = 0.25 * cross_entropy(head(h), y, reduction="sum") + 0.75 * compared
    assert stepped(learner, x, y, 8)[0] == pytest.approx(expected.item(), rel=1e-5)


def test_similarity_trains_the_block_and_its_own_convolution_and_no_hidden_layer() -> None:
    block, head = Block(1, 4), Head(4, k=3, width=6, classes=3, similarity=True)
    x, y = batch(16, 3)
    outputs = training_forward([block], head)(x)
    assert isinstance(outputs, tuple)
    similarity_loss(outputs[1], y, classes=3).backward()  # type: ignore[no-untyped-call]
    moved = {name for name, weight in head.named_parameters() if weight.grad is not None}
    assert moved == {"similarity.conv.weight"}
    gradient = block.conv.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_without_a_similarity_loss_nothing_is_there_that_was_not() -> None:
    assert not any("similarity" in name for name in Head(4, k=2, width=6, classes=3).state_dict())


@pytest.mark.parametrize("norm", ["true", "false"])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_step_in_parts_of_32_64_or_128_is_the_same_step(tmp_path: Path, norm: str, recompute: bool) -> None:
    run = tiny_run(tmp_path / "run", "head.similarity=0.9", *NORM, f"network.batch_norm={norm}")
    x, y = batch(128, run.classes)
    whole_loss, whole = stepped(learner_of(run), x, y, 128)
    for size in (64, 32):
        loss, parts = stepped(learner_of(run, recompute=recompute), x, y, size)
        assert loss == pytest.approx(whole_loss, rel=1e-5)
        for name, tensor in whole.items():
            torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pool", [1, 2])
def test_a_step_that_recomputes_ends_in_the_same_bits(tmp_path: Path, pool: int) -> None:
    run = tiny_run(tmp_path / "run", "head.similarity=0.9", f"head.pool={pool}", "head.k=3")
    x, y = batch(8, run.classes)
    loss, kept = stepped(learner_of(run), x, y, 8)
    again, made_again = stepped(learner_of(run, recompute=True), x, y, 8)
    assert loss == again
    assert all(torch.equal(kept[name], made_again[name]) for name in kept)


def test_groups_leave_the_micro_batches_of_batch_norm_also_without_it(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "network.batch_norm=false", "head.similarity=0.5", *NORM)
    assert micro_batches(run.config, 0) == [128, 64, 32]
    whole = reopened(run.path, "network.bn_group=0", "machine.micro_batch=32").config
    with pytest.raises(ConfigError, match=r"in parts of 128\nnext: .*; or set network.bn_group"):
        check_micro_batch(whole, 0)
    assert micro_batches(reopened(run.path, "head.similarity=0").config, 0)[-1] == 8


def test_groups_are_in_the_key_wherever_samples_are_compared(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "network.batch_norm=false", "train.batch_size=64")
    keys = {
        (similarity, group): reopened(run.path, f"head.similarity={similarity}", f"network.bn_group={group}")
        .stages[0]
        .key
        for similarity in (0, 0.5)
        for group in (0, 32)
    }
    assert keys[0, 0] == keys[0, 32]
    assert len(set(keys.values())) == 3


def test_a_stage_may_have_a_share_of_its_own_and_what_is_before_it_stays_as_it_was(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "stages.1.head.similarity=0.5")
    assert [run.config.for_stage(j).head.similarity for j in range(2)] == [0, 0.5]
    plain = reopened(run.path, "stages.1.head.similarity=0")
    assert run.stages[0].key == plain.stages[0].key
    assert run.stages[1].key != plain.stages[1].key


def test_trained_stages_are_evaluated_loaded_and_refitted_as_others(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "head.similarity=0.5")
    for j in range(2):
        train_stage(run, j, CPU, Reporter())
        run = reopened(run.path)
    record = run.stages[1].record
    assert record is not None
    assert record.fields["head.similarity"] == 0.5
    assert load_network(run, 1)(torch.rand(3, 1, 8, 8)).shape == (3, run.classes)
    train_stage(with_last_head(run, 16), 1, CPU, Reporter())
    (refit,) = find_refits(reopened(run.path))
    assert refit.head_width == 16


def test_network_end_to_end_and_probes_are_what_they_are_without_it(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    mixed = reopened(run.path, "head.similarity=0.5")
    assert end_to_end(mixed).key == end_to_end(run).key
    assert end_to_end(mixed).modules(mixed)[1].similarity is None
    assert cnn_problem(mixed, 0, "cnn-1").key == cnn_problem(run, 0, "cnn-1").key


def test_it_takes_more_memory_and_the_prediction_says_so(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", *NORM)

    def peak(*settings: str) -> int:
        outline = reopened(run.path, *settings).outline
        work = stage_work(outline, 0, anchor=0, device_type="cpu", dtype=torch.float32)
        return predicted_peak(work, 64).training

    assert peak("head.similarity=0.5") > peak() + 64 * 4 * 8 * 8 * 4  # the convolution's output at least


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("head.similarity=1",), r"head.similarity = 1: Expected `?float`? < 1"),
        (("head.similarity=-0.1",), r"head.similarity = -0.1: Expected `?float`? >= 0"),
        (
            ("head.similarity=0.5", "stages.1.compress.keep=0.5"),
            r"stages.1.head.similarity = 0.5: its filters are cut off .*; set stages.1.head.similarity = 0 or",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(tmp_path: Path, settings: tuple[str, ...], message: str) -> None:
    run = tiny_run(tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        reopened(run.path, *settings)
