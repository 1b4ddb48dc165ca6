"""Stage j: theta_j and gamma_j are fitted on x_j (Alg. 1), evaluated, kept, and x_{j+1} is written back."""

import math
import time

import msgspec
import torch
import torch.nn.functional as F
from torch import nn

from cache import replace_file
from cascade import Quantiser, parameter_count
from pipeline.device import autocast, machine_record, peak_memory_bytes, reset_peak_memory
from pipeline.errors import CascadeError, CorruptDataError
from pipeline.evaluation import Scores, outputs, score
from pipeline.feed import Feed
from pipeline.keys import key_of
from pipeline.learner import Learner, learning_rate, make_learner
from pipeline.networks import new_quantiser
from pipeline.progress import Reporter, duration, size
from pipeline.runfolder import RunFolder, StageFolder, StageRecord
from pipeline.weights import load_tensors, module_tensors, save_tensors
from pipeline.writeback import output_is_due, write_output

CALIBRATION_SAMPLES = 1024
"""Training samples from which the scale of an encoding is taken."""


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One line of metrics.jsonl."""

    epoch: int
    """From 0."""
    lr: float
    """Learning rate of the epoch."""
    train_loss: float
    """Mean cross entropy over the epoch's augmented samples."""
    train_accuracy: float
    """Percent, over the same."""
    validation_accuracy: float | None
    """Percent, after the epoch; None where nothing is held out."""
    images_per_second: float
    """Trained, over the epoch without its validation."""
    wait_share: float
    """Share of that time spent waiting for stored data, 0..1."""
    peak_memory_bytes: int
    """Of the device; on the CPU, of the process."""
    seconds: float
    """Of the epoch, validation included."""


def train_stage(
    run: RunFolder, j: int, device: torch.device, report: Reporter, *, output_asked_for: bool = False
) -> bool:
    """Bring stage j to its end from wherever it is. Returns False where there was nothing to do.

    With `output_asked_for`, x_{j+1} is written though no stage will read it any more.

    Raises RefusedError where there is nothing to start from, and CascadeError where the loss is no number.
    """
    folder = run.stages[j]
    if folder.record is not None and not output_is_due(run, j, asked_for=output_asked_for):
        return False
    feed = Feed(run, j, device)
    if folder.record is None:
        _train(run, feed, report)
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
    records = _resume(folder, learner)
    shape = run.shapes[feed.j]
    report.say(
        f"stage {feed.j}: {feed.source}; block {shape.in_channels}x{shape.in_side}x{shape.in_side} -> "
        f"{'x'.join(map(str, shape.output))}, {parameter_count([learner.block]):,} parameters, "
        f"head {parameter_count([learner.head]):,}; {str(feed.dtype).removeprefix('torch.')} on {feed.device}"
        + (f"; going on at epoch {len(records) + 1}" if records else "")
    )
    for epoch in range(len(records), train.epochs):
        lr = learning_rate(train, epoch)
        for group in learner.optimiser.param_groups:
            group["lr"] = lr
        if epoch and train.reset_momentum and epoch % train.lr_drop_every == 0:
            learner.optimiser.state.clear()
        record = _epoch(run, feed, learner, epoch, lr, report)
        records.append(record)
        replace_file(folder.metrics, b"".join(msgspec.json.encode(line) + b"\n" for line in records))
        save_tensors(folder.checkpoint, learner.tensors(), {"epochs": str(len(records))})
        left = duration(record.seconds * (train.epochs - len(records)))
        validation = "" if record.validation_accuracy is None else f"  validation {record.validation_accuracy:5.2f}%"
        report.say(
            f"stage {feed.j}  epoch {epoch + 1:>2}/{train.epochs}  lr {lr:<7.4g} loss {record.train_loss:.4f}  "
            f"train {record.train_accuracy:5.2f}%{validation}  {record.images_per_second:,.0f} images/s  "
            f"waiting {record.wait_share:.0%}  {size(record.peak_memory_bytes)}  {left} left"
        )
    return records


def _resume(folder: StageFolder, learner: Learner) -> list[EpochRecord]:
    """Restore the last checkpoint and return the records up to it; nothing where there is none."""
    if not folder.checkpoint.exists():
        return []
    tensors, metadata = load_tensors(folder.checkpoint)
    learner.restore(tensors, folder.checkpoint)
    epochs = int(count) if (count := metadata.get("epochs", "")).isdecimal() else 0
    records = read_metrics(folder)[:epochs]  # a line may be ahead of the checkpoint, never behind it
    if not epochs or len(records) < epochs:
        raise CorruptDataError(
            f"{folder.checkpoint} is of {epochs} epochs and {folder.metrics} of {len(records)}\n"
            f"next: delete {folder.path} and train the stage again"
        )
    return records


def read_metrics(folder: StageFolder) -> list[EpochRecord]:
    """The records of a stage's epochs so far, none where it has not begun. Raises CorruptDataError."""
    try:
        lines = folder.metrics.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=EpochRecord) for line in lines]
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError as error:
        raise CorruptDataError(
            f"{folder.metrics} is damaged: {error}\nnext: delete {folder.path} and train the stage again"
        ) from error


def _epoch(run: RunFolder, feed: Feed, learner: Learner, epoch: int, lr: float, report: Reporter) -> EpochRecord:
    train = run.config.for_stage(feed.j).train
    total = feed.store("train").samples
    name = f"stage {feed.j} epoch {epoch + 1}/{train.epochs}"
    loss_sum = torch.zeros((), device=feed.device)
    correct = torch.zeros((), dtype=torch.int64, device=feed.device)
    seen, began, waited = 0, time.perf_counter(), feed.wait_seconds
    learner.train(True)
    with report.task(name, total) as task:
        for x, y in feed.training(epoch):
            with autocast(feed.device, feed.dtype):
                logits = learner.logits(x)
                loss = F.cross_entropy(logits.float(), y)
            learner.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            learner.optimiser.step()
            # Kept on the device: reading a number back would make the host wait at every step.
            loss_sum += loss.detach() * len(y)
            correct += (logits.detach().argmax(1) == y).sum()
            seen += len(y)
            if task.wants_detail:
                rate = seen / (time.perf_counter() - began)
                waiting = (feed.wait_seconds - waited) / (time.perf_counter() - began)
                left = duration((total - seen) / rate + total / rate * (train.epochs - epoch - 1))
                memory = size(peak_memory_bytes(feed.device))
                task.update(seen, f"{rate:,.0f} images/s  waiting {waiting:.0%}  {memory}  {left} left")
    mean_loss = loss_sum.item() / seen
    trained = time.perf_counter() - began
    if not (math.isfinite(mean_loss) and learner.is_finite()):
        what = f"the loss is {mean_loss}" if not math.isfinite(mean_loss) else "the weights are no longer finite"
        raise CascadeError(
            f"stage {feed.j}, epoch {epoch + 1}: {what}; nothing of this epoch was kept\n"
            f"next: lower the learning rate (--set stages.{feed.j}.train.lr={lr / 3:.2g}), "
            f"or set network.precision = float32"
        )
    wait_share = (feed.wait_seconds - waited) / trained
    validation = evaluate_split(run, feed, learner, "validation").top1 if "validation" in run.splits else None
    return EpochRecord(
        epoch=epoch,
        lr=lr,
        train_loss=mean_loss,
        train_accuracy=100 * correct.item() / seen,
        validation_accuracy=validation,
        images_per_second=seen / trained,
        wait_share=wait_share,
        peak_memory_bytes=peak_memory_bytes(feed.device),
        seconds=time.perf_counter() - began,
    )


def evaluate_split(run: RunFolder, feed: Feed, learner: Learner, split: str) -> Scores:
    """Accuracies of the stage's head on a split."""
    learner.train(False)
    return score(*outputs(feed, learner.logits, split), classes=run.classes)


def _finish(run: RunFolder, feed: Feed, learner: Learner, epochs: list[EpochRecord], report: Reporter) -> None:
    """Freeze the scale of x_{j+1}, test once, and keep weights, outputs and, last, the record."""
    j, folder = feed.j, run.stages[feed.j]
    learner.train(False)
    quantiser = calibrated_quantiser(run, j, feed, learner.block)
    logits, y = outputs(feed, learner.logits, "test")
    test = score(logits, y, classes=run.classes)
    save_tensors(folder.block, module_tensors(block=learner.block, quantiser=quantiser))
    save_tensors(folder.head, module_tensors(head=learner.head))
    save_tensors(folder.test_logits, {"logits": logits})
    last = epochs[-1]
    record = StageRecord(
        j=j,
        key=key_of(run.fields[j]),
        fields=run.fields[j],
        parameters={"block": parameter_count([learner.block]), "head": parameter_count([learner.head])},
        train_accuracy=last.train_accuracy,
        validation_accuracy=last.validation_accuracy,
        test_accuracy=test.top1,
        balanced_test_accuracy=test.balanced,
        seconds=sum(epoch.seconds for epoch in epochs),
        peak_memory_bytes=max(epoch.peak_memory_bytes for epoch in epochs),
        device=str(feed.device),
        machine=machine_record(feed.device, feed.dtype),
    )
    replace_file(folder.path / "stage.json", msgspec.json.format(msgspec.json.encode(record)))
    folder.checkpoint.unlink(missing_ok=True)
    report.say(f"stage {j}  done: test {test.top1:.2f}%, in {duration(record.seconds)}")


def calibrated_quantiser(run: RunFolder, j: int, feed: Feed, block: nn.Module) -> Quantiser:
    """The quantiser of x_{j+1}, its scale the largest activation of each channel over the first training samples.

    The samples come from x_0 in the test-time window, through the whole prefix: so the scale does not depend on what
    is stored.
    """
    quantiser = new_quantiser(run, j).to(feed.device)
    if quantiser.encoding != "uint8":
        return quantiser
    from_images = feed if feed.anchor == 0 else Feed(run, j, feed.device, anchor=0)
    largest = torch.zeros(run.shapes[j].out_channels, device=feed.device)
    for x, _ in from_images.sequential("train", block, centre=True, limit=CALIBRATION_SAMPLES):
        largest = torch.maximum(largest, x.float().amax((0, 2, 3)))
    quantiser.calibrate(largest)
    return quantiser
