"""Accuracy: of a head, of every stage, and of their ensemble."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cascade import ensemble
from pipeline.acceptance import chain
from pipeline.device import determinism, place
from pipeline.errors import CorruptDataError, RefusedError
from pipeline.experiments.end_to_end import NAME, end_to_end, load_end_to_end
from pipeline.experiments.seeds import list_of_seeds, seed_folder, seeds_there, sweep_command
from pipeline.feed import Feed
from pipeline.networks import kept_tensors, load_cut_network, takes_canvas
from pipeline.record import StageRecord
from pipeline.refits import find_refits
from pipeline.runfolder import RunFolder
from pipeline.stopping import never
from pipeline.weights import load_tensors

TOP5_FROM_CLASSES = 6
"""With five classes or less the top 5 are all of them."""


@dataclass(frozen=True)
class Scores:
    """Percent."""

    top1: float
    """Of all samples, those whose largest output is the label's."""
    top5: float | None
    """Those whose label is among the five largest outputs; None with five classes or less."""
    per_class: tuple[float | None, ...]
    """Top 1 of each class; None for a class without samples."""

    @property
    def balanced(self) -> float:
        """Mean of the classes' accuracies."""
        present = [value for value in self.per_class if value is not None]
        return sum(present) / len(present)


def score(logits: Tensor, y: Tensor, *, classes: int) -> Scores:
    """Scores of outputs (N, classes) for labels (N,)."""
    hit = logits.argmax(1) == y
    count = torch.bincount(y, minlength=classes)
    hits = torch.bincount(y[hit], minlength=classes)
    top5 = None
    if classes >= TOP5_FROM_CLASSES:
        top5 = _percent((logits.topk(5, dim=1).indices == y[:, None]).any(1))
    return Scores(
        top1=_percent(hit),
        top5=top5,
        per_class=tuple(100 * h / n if n else None for h, n in zip(hits.tolist(), count.tolist(), strict=True)),
    )


def _percent(hit: Tensor) -> float:
    """How many of (N,) are true, of 100."""
    return 100 * int(hit.sum()) / len(hit)


def outputs(
    feed: Feed, network: Callable[[Tensor], Tensor], split: str, *, view: int | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs (N, classes) float32 and labels (N,) of a whole split in stored order, on the CPU.

    Of the test-time window of x_j, or of x_j as it is stored.
    """
    logits, labels = [], []
    for z, y in feed.sequential(split, network, view=view):
        logits.append(z.float())
        labels.append(y)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()


@dataclass(frozen=True)
class Risk:
    """Of a network on all training samples, without augmentation."""

    loss: float
    """Mean cross entropy."""
    accuracy: float
    """Percent."""


def training_risk(feed: Feed, network: Callable[[Tensor], Tensor]) -> Risk:
    """The empirical risk on x_j in the test-time window, past stage 0 under "views" on view 0 of each sample.

    Summed on the device, so that no outputs are held. Raises Stopped.
    """
    augment, samples = feed.run.config.augment, feed.store("train").samples
    view = 0 if feed.j > 0 and augment.policy == "views" else None
    dtype = torch.float32 if feed.device.type == "mps" else torch.float64  # which mps does not have
    loss, correct = (torch.zeros((), dtype=dtype, device=feed.device) for _ in range(2))
    for z, y in feed.sequential("train", network, view=view):
        loss += cross_entropy(z.to(dtype), y, reduction="sum")
        correct += (z.argmax(1) == y).sum()
    return Risk(loss.item() / samples, 100 * correct.item() / samples)


@dataclass(frozen=True)
class RefitScores:
    """Of the last stage with a head of another width."""

    head_width: int
    """Channels of its hidden layers."""
    scores: Scores
    ensemble: Scores
    """With it in place of the last stage, weighted as that is."""


@dataclass(frozen=True)
class Evaluation:
    """Scores on the test split."""

    stages: dict[int, Scores]
    """Of each trained stage's head."""
    ensemble: Scores
    """Of all of them, weighted 2^j."""
    refits: list[RefitScores]
    """By their width."""
    end_to_end: Scores | None
    """Of the same network trained end to end; None where it is not."""
    notes: list[str] = field(default_factory=list)
    """What of refits and of the network end to end is damaged, and so not scored, and what to do."""


def evaluate(
    run: RunFolder, *, recompute_on: torch.device | None = None, should_stop: Callable[[], bool] = never
) -> Evaluation:
    """Every trained stage's head, and the ensemble, on the test split.

    From the outputs that each stage kept when it ended, or, given a device, from the images through the whole
    network. Stages count up to the first that is not trained. What is damaged of what lies beside them is noted.
    Raises RefusedError where no stage is trained, CorruptDataError, Stopped.
    """
    trained = 0
    while trained < len(run.stages) and run.stages[trained].record is not None:
        trained += 1
    if not trained:
        if seeds := seeds_there(run.path):
            raise RefusedError(
                f"no stage is trained in {run.path} itself, whose sweep has {list_of_seeds(seeds)}\n"
                f"next: {sweep_command(run.path)} says what they scored; cascade evaluate --run "
                f"{seed_folder(run.path, seeds[0])} of one"
            )
        raise RefusedError(f"no stage is trained{left_out(run, 0)}")
    run.check_x_0(["test"])
    y = torch.from_numpy(run.open_store(0, "test").y)

    def logits(seen: RunFolder, j: int) -> Tensor:
        if recompute_on is None:
            return kept_logits(seen, j, y)
        with determinism(recompute_on, asked_for=run.config.machine.deterministic):
            return recomputed_logits(seen, j, recompute_on, should_stop)

    def scored(logits: Tensor) -> Scores:
        return score(logits, y, classes=run.classes)

    def together(kept: list[Tensor]) -> Scores:
        return scored(ensemble(kept, over=run.config.evaluate.ensemble))

    kept, last = [logits(run, j) for j in range(trained)], len(run.stages) - 1
    done = [one for one in find_refits(run) if one.folder.record is not None] if trained >= last else []
    again: dict[int, Tensor] = {}
    notes: list[str] = []
    whole = None
    for one in done:
        with _noting(notes):
            again[one.head_width] = logits(one.run, last)
    with _noting(notes):
        whole = _end_to_end(run, y, recompute_on, should_stop)
    return Evaluation(
        stages={j: scored(logits) for j, logits in enumerate(kept)},
        ensemble=together(kept),
        refits=[RefitScores(width, scored(z), together([*kept[:last], z])) for width, z in again.items()],
        end_to_end=whole,
        notes=notes,
    )


@contextmanager
def _noting(notes: list[str]) -> Iterator[None]:
    """Note what is damaged, and go on."""
    try:
        yield
    except CorruptDataError as error:
        notes.append(str(error))


def _end_to_end(
    run: RunFolder, y: Tensor, recompute_on: torch.device | None, should_stop: Callable[[], bool]
) -> Scores | None:
    folder = end_to_end(run).folder
    if (record := folder.record) is None:
        return None
    if recompute_on is None:
        remedy = f"{run.command('evaluate')} --recompute"
        kept, _ = load_tensors(folder.test_logits, content=record.content.get("test_logits", ""), remedy=remedy)
        return score(_scoring(record, kept, folder.test_logits, y, run.classes, remedy), y, classes=run.classes)
    network = load_end_to_end(run)
    place(network, recompute_on)
    feed = Feed(run, 0, recompute_on, what=NAME, should_stop=should_stop)
    with determinism(recompute_on, asked_for=run.config.machine.deterministic):
        logits, _ = outputs(feed, network, "test")
    return score(logits, y, classes=run.classes)


def left_out(run: RunFolder, trained: int) -> str:
    """Why no stage from the index `trained` on is evaluated, and what to type."""
    changes = run.changes(trained)
    why = f" with these settings ({changes})" if changes else " yet"
    stale = 0 if run.accepts_stale else len(chain(run))
    take = f", or {run.command('evaluate')} --accept-stale, which takes {span(trained, stale - 1)} of other settings"
    return f"{why}\nnext: {run.run_command(trained)}, which trains what is missing{take if stale > trained else ''}"


def span(first: int, last: int) -> str:
    """As in "stages 2..4", or "stage 2" alone."""
    return f"stages {first}..{last}" if first < last else f"stage {first}"


def kept_logits(run: RunFolder, j: int, y: Tensor) -> Tensor:
    """Outputs that stage j kept for the test split, (N, classes).

    Raises CorruptDataError where they are damaged, or do not score what the stage's record says.
    """
    folder, record = run.stages[j], run.stages[j].record
    assert record is not None
    remedy = f"{run.command('evaluate')} --recompute"
    kept = kept_tensors(run, j, folder.test_logits, remedy=remedy)
    return _scoring(record, kept, folder.test_logits, y, run.classes, remedy)


def _scoring(record: StageRecord, kept: dict[str, Tensor], path: Path, y: Tensor, classes: int, remedy: str) -> Tensor:
    """The outputs of a file, which have to score what a record says. Raises CorruptDataError."""
    logits = kept.get("logits")
    fits = logits is not None and logits.shape == (len(y), classes) and logits.is_floating_point()
    if logits is None or not fits or int((logits.argmax(1) == y).sum()) != round(record.test_accuracy * len(y) / 100):
        raise CorruptDataError(
            f"{path} does not hold the outputs that scored {record.test_accuracy:.2f}% when its training ended\n"
            f"next: {remedy}"
        )
    return logits


def recomputed_logits(run: RunFolder, j: int, device: torch.device, should_stop: Callable[[], bool] = never) -> Tensor:
    """Outputs of the network cut after stage j for the test split, (N, classes), from the images."""
    network = load_cut_network(run, j)
    place(network, device)
    feed = Feed(run, 0, device, should_stop=should_stop)
    return outputs(feed, network, "test", view=0 if takes_canvas(run, j) else None)[0]
