"""The filters of a trained block ranked, over an epoch of the training split."""

from collections.abc import Callable
from contextlib import closing

import torch
from torch import Tensor

from cascade import recomputed, stage_parts, taylor_scores
from pipeline.device import autocast
from pipeline.errors import CascadeError, Stopped
from pipeline.feed import Feed
from pipeline.learner import Learner
from pipeline.progress import Reporter


def filter_scores(
    learner: Learner, feed: Feed, epoch: int, report: Reporter, should_stop: Callable[[], bool]
) -> Tensor:
    """The Taylor criterion of each filter of the learner's block: its mean over the samples of an epoch, (C,) float64.

    Block and head in evaluation mode, on the samples as that epoch of training would see them. Takes less memory than a
    training step: only the input of the head has a gradient, and only what leads to it is kept.

    Raises Stopped, after which it begins anew, and CascadeError where a score is no number.
    """
    learner.train(False)
    learner.head.requires_grad_(False)
    logits = recomputed(stage_parts([], learner.head))
    total = torch.zeros((), dtype=torch.float64)
    seen = 0
    with (
        report.task(f"{feed.what} ranking its filters", feed.epoch_samples) as task,
        closing(feed.training(epoch)) as micro_batches,
    ):
        for x, y in micro_batches:
            if should_stop():
                raise Stopped(f"{feed.what}: stopped while its filters were ranked")
            with autocast(feed.device, feed.dtype):
                with torch.no_grad():
                    x = learner.block(x)
                total = total + taylor_scores(x, y, logits).cpu()
            seen += len(y)
            if task.wants_detail:
                task.update(seen)
    learner.head.requires_grad_(True)
    if not total.isfinite().all():
        raise CascadeError(
            f"{feed.what}: the Taylor criterion of a filter is no number, and nothing is cut\n"
            f"next: network.precision = float32, or stages.{feed.j}.compress.keep = 1"
        )
    return total / seen
