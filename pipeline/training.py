"""Stage j: theta_j and gamma_j are fitted on x_j (Alg. 1), evaluated, kept, and x_{j+1} is written back."""

import math
import time
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cache import replace_file
from cascade import parameter_count
from pipeline.calibration import calibrate_output, describe_encoding, scale_is_due
from pipeline.device import autocast, machine_record, peak_memory_bytes, reset_peak_memory
from pipeline.errors import CascadeError, CorruptDataError
from pipeline.evaluation import Scores, outputs, score
from pipeline.feed import Feed
from pipeline.keys import key_of
from pipeline.learner import Learner, learning_rate, make_learner
from pipeline.metrics import EpochRecord, read_metrics
from pipeline.progress import Reporter, duration, size
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder, StageFolder
from pipeline.weights import load_tensors, module_tensors, save_tensors
from pipeline.writeback import output_is_due, write_output

EPOCH = "epoch."


@dataclass
class Progress:
    """An epoch so far. Its sums stay on the device: reading a number back would make the host wait at every step."""

    consumed: int
    """Samples of the epoch's order that are behind."""
    seconds: Tensor
    """That they took, up to the last checkpoint. On the host."""
    seen: Tensor
    """Samples trained on."""
    loss: Tensor
    """Sum of their cross entropies."""
    correct: Tensor
    """Of them, those that the head got right."""

    @classmethod
    def fresh(cls, device: torch.device) -> "Progress":
        """The beginning of an epoch."""
        dtype = torch.float32 if device.type == "mps" else torch.float64  # which mps does not have
        sums = (torch.zeros((), dtype=dtype, device=device) for _ in range(3))
        return cls(0, torch.zeros((), dtype=torch.float64), *sums)

    def tensors(self) -> dict[str, Tensor]:
        """All but `consumed`, by name."""
        return {EPOCH + name: getattr(self, name) for name in ("seconds", "seen", "loss", "correct")}


def train_stage(
    run: RunFolder, j: int, device: torch.device, report: Reporter, *, output_asked_for: bool = False
) -> bool:
    """Bring stage j to its end from wherever it is. Returns False where there was nothing to do.

    With `output_asked_for`, x_{j+1} is written though no stage will read it any more.

    Raises RefusedError where there is nothing to start from, and CascadeError where the loss is no number.
    """
    folder = run.stages[j]
    due = scale_is_due(run, j) or output_is_due(run, j, asked_for=output_asked_for)
    if folder.record is not None and not due:
        return False
    feed = Feed(run, j, device)
    if folder.record is None:
        _train(run, feed, report)
    if scale_is_due(run, j):
        report.say(f"stage {j}  x_{j + 1} as {describe_encoding(calibrate_output(run, j, device))}")
    if output_is_due(run, j, asked_for=output_asked_for):
        write_output(run, j, feed, report)
    return True


def _train(run: RunFolder, feed: Feed, report: Reporter) -> None:
    """Fit, test and keep; the learner is off the device again when the write-back begins."""
    run.stages[feed.j].path.mkdir(parents=True, exist_ok=True)
    reset_peak_memory(feed.device)
    learner = make_learner(run, feed.j, feed.device)
    epochs = _fit(run, feed, learner, report)
    _finish(run, feed, learner, epochs, report)


def _fit(run: RunFolder, feed: Feed, learner: Learner, report: Reporter) -> list[EpochRecord]:
    """Train to the last epoch, from the last checkpoint if there is one. Returns the records of all epochs."""
    folder, train = run.stages[feed.j], run.config.for_stage(feed.j).train
    samples = feed.store("train").samples
    records, progress = _resume(folder, learner, batch_size=feed.batch_size, samples=samples)
    shape = run.shapes[feed.j]
    report.say(
        f"stage {feed.j}: {feed.source}; block {shape.in_channels}x{shape.in_side}x{shape.in_side} -> "
        f"{'x'.join(map(str, shape.output))}, {parameter_count([learner.block]):,} parameters, "
        f"head {parameter_count([learner.head]):,}; {str(feed.dtype).removeprefix('torch.')} on {feed.device}"
        + (f"; going on at epoch {len(records) + 1}" if records or progress.consumed else "")
        + (f", image {progress.consumed:,}" if progress.consumed else "")
    )
    for epoch in range(len(records), train.epochs):
        lr = learning_rate(train, epoch)
        for group in learner.optimiser.param_groups:
            group["lr"] = lr
        if epoch and train.reset_momentum and epoch % train.lr_drop_every == 0 and not progress.consumed:
            learner.optimiser.state.clear()
        record = _epoch(run, feed, learner, epoch, lr, progress, report)
        progress = Progress.fresh(feed.device)
        records.append(record)
        replace_file(folder.metrics, b"".join(msgspec.json.encode(line) + b"\n" for line in records))
        _save_checkpoint(folder, learner, len(records))
        left = duration(record.seconds * (train.epochs - len(records)))
        validation = "" if record.validation_accuracy is None else f"  validation {record.validation_accuracy:5.2f}%"
        report.say(
            f"stage {feed.j}  epoch {epoch + 1:>2}/{train.epochs}  lr {lr:<7.4g} loss {record.train_loss:.4f}  "
            f"train {record.train_accuracy:5.2f}%{validation}  {record.images_per_second:,.0f} images/s  "
            f"waiting {record.wait_share:.0%}  {size(record.peak_memory_bytes)}  {left} left"
        )
    return records


def _resume(
    folder: StageFolder, learner: Learner, *, batch_size: int, samples: int
) -> tuple[list[EpochRecord], Progress]:
    """Restore the last checkpoint. Returns the records of whole epochs, and how far the next one is."""
    device = learner.device
    if not folder.checkpoint.exists():
        return [], Progress.fresh(device)
    tensors, metadata = load_tensors(folder.checkpoint)
    sums = {name: tensor for name, tensor in tensors.items() if name.startswith(EPOCH)}
    learner.restore({name: tensor for name, tensor in tensors.items() if name not in sums}, folder.checkpoint)
    epochs, consumed = (int(n) if (n := metadata.get(name, "")).isdecimal() else 0 for name in ("epochs", "consumed"))
    records = read_metrics(folder)[:epochs]  # a line may be ahead of the checkpoint, never behind it
    progress = Progress.fresh(device)
    fits = consumed % batch_size == 0 and consumed < samples and (consumed > 0) == bool(sums)
    if consumed and fits:
        fits = sums.keys() == progress.tensors().keys() and all(tensor.shape == () for tensor in sums.values())
        fits = fits and sums[EPOCH + "seen"].item() == consumed
    if not epochs + consumed or len(records) < epochs or not fits:
        raise CorruptDataError(
            f"{folder.checkpoint} is of {epochs} epochs and {consumed} samples, {folder.metrics} of {len(records)} "
            f"epochs: they do not belong together, or are damaged\n"
            f"next: delete {folder.path} and train the stage again"
        )
    progress.consumed = consumed
    for name, tensor in progress.tensors().items():
        if consumed:
            tensor.copy_(sums[name])
    return records, progress


def _epoch(
    run: RunFolder, feed: Feed, learner: Learner, epoch: int, lr: float, progress: Progress, report: Reporter
) -> EpochRecord:
    began, waits = time.perf_counter(), feed.waits
    first, before = progress.consumed, progress.seconds.item()
    _steps(run, feed, learner, epoch, progress, report)
    count, loss, correct = (value.item() for value in (progress.seen, progress.loss, progress.correct))
    trained = time.perf_counter() - began
    mean_loss = loss / count
    _check_finite(feed.j, learner, epoch, mean_loss)
    validation = evaluate_split(run, feed, learner, "validation").top1 if "validation" in run.splits else None
    by_cause = {cause: (seconds - waits[cause]) / trained for cause, seconds in feed.waits.items()}
    return EpochRecord(
        epoch=epoch,
        lr=lr,
        train_loss=mean_loss,
        train_accuracy=100 * correct / count,
        validation_accuracy=validation,
        images_per_second=(progress.consumed - first) / trained,
        wait_share=sum(by_cause.values()),
        wait_by_cause=by_cause,
        peak_memory_bytes=peak_memory_bytes(feed.device),
        seconds=before + time.perf_counter() - began,
    )


def _steps(run: RunFolder, feed: Feed, learner: Learner, epoch: int, progress: Progress, report: Reporter) -> None:
    """The steps of an epoch from where it is; on the way, a checkpoint now and then."""
    train = run.config.for_stage(feed.j).train
    total = feed.store("train").samples
    began, first, waited = time.perf_counter(), progress.consumed, sum(feed.waits.values())
    saved = counted = began
    learner.train(True)
    with report.task(f"stage {feed.j} epoch {epoch + 1}/{train.epochs}", total) as task:
        for x, y in feed.training(epoch, start=first):
            train_step(learner, x, y, feed.dtype, progress)
            now = time.perf_counter()
            if now - saved >= 60 * run.config.machine.checkpoint_minutes and progress.consumed < total:
                _check_finite(feed.j, learner, epoch, progress.loss.item() / progress.seen.item())
                progress.seconds += now - counted
                _save_checkpoint(run.stages[feed.j], learner, epoch, progress)
                saved = counted = now
            if task.wants_detail:
                rate = (progress.consumed - first) / (now - began)
                waiting = (sum(feed.waits.values()) - waited) / (now - began)
                left = duration((total - progress.consumed) / rate + total / rate * (train.epochs - epoch - 1))
                memory = size(peak_memory_bytes(feed.device))
                task.update(progress.consumed, f"{rate:,.0f} images/s  waiting {waiting:.0%}  {memory}  {left} left")


def _check_finite(j: int, learner: Learner, epoch: int, mean_loss: float) -> None:
    """Raise CascadeError where a loss or a weight is no number, before anything of it is kept."""
    if math.isfinite(mean_loss) and learner.is_finite():
        return
    what = f"the loss is {mean_loss}" if not math.isfinite(mean_loss) else "the weights are no longer finite"
    lr = learner.optimiser.param_groups[0]["lr"]
    raise CascadeError(
        f"stage {j}, epoch {epoch + 1}: {what}; nothing since the last checkpoint was kept\n"
        f"next: lower the learning rate (--set stages.{j}.train.lr={lr / 3:.2g}), or set network.precision = float32"
    )


def train_step(learner: Learner, x: Tensor, y: Tensor, dtype: torch.dtype, progress: Progress) -> None:
    """One step of SGD on a batch of x_j. The host does not wait for the device."""
    with autocast(x.device, dtype):
        logits = learner.forward(x)
        loss = cross_entropy(logits.float(), y)
    learner.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    learner.optimiser.step()
    progress.loss += loss.detach() * len(y)
    progress.correct += (logits.detach().argmax(1) == y).sum()
    progress.seen += len(y)
    progress.consumed += len(y)


def _save_checkpoint(folder: StageFolder, learner: Learner, epochs: int, progress: Progress | None = None) -> None:
    """Keep what a stage is after whole `epochs`, and within the one after them."""
    consumed = progress.consumed if progress else 0
    tensors = {**learner.tensors(), **(progress.tensors() if progress else {})}
    save_tensors(folder.checkpoint, tensors, {"epochs": str(epochs), "consumed": str(consumed)})


def evaluate_split(run: RunFolder, feed: Feed, learner: Learner, split: str) -> Scores:
    """Accuracies of the stage's head on a split."""
    learner.train(False)
    return score(*outputs(feed, learner.logits, split), classes=run.classes)


def _finish(run: RunFolder, feed: Feed, learner: Learner, epochs: list[EpochRecord], report: Reporter) -> None:
    """Test once, and keep weights, outputs and, last, the record."""
    j, folder = feed.j, run.stages[feed.j]
    learner.train(False)
    logits, y = outputs(feed, learner.logits, "test")
    test = score(logits, y, classes=run.classes)
    save_tensors(folder.block, module_tensors(block=learner.block))
    save_tensors(folder.head, module_tensors(head=learner.head))
    save_tensors(folder.test_logits, {"logits": logits})
    last = epochs[-1]
    record = StageRecord(
        j=j,
        key=key_of(run.fields[j]),
        fields=run.fields[j],
        accepted=[stage for stage in run.accepted if stage.stage < j],
        parameters={"block": parameter_count([learner.block]), "head": parameter_count([learner.head])},
        train_accuracy=last.train_accuracy,
        validation_accuracy=last.validation_accuracy,
        test_accuracy=test.top1,
        balanced_test_accuracy=test.balanced,
        seconds=sum(epoch.seconds for epoch in epochs),
        peak_memory_bytes=max(epoch.peak_memory_bytes for epoch in epochs),
        device=str(feed.device),
        machine={**machine_record(feed.device, feed.dtype), "compiled": run.config.machine.compile},
    )
    replace_file(folder.path / "stage.json", msgspec.json.format(msgspec.json.encode(record)))
    folder.checkpoint.unlink(missing_ok=True)
    report.say(f"stage {j}  done: test {test.top1:.2f}%, in {duration(record.seconds)}")
