"""A problem is fitted on x_j, of a stage theta_j and gamma_j (Alg. 1), from the last checkpoint on; then tested and
kept."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice

import msgspec

from cache import make_folder, replace_file
from cascade import parameter_count, strongest
from pipeline.checkpoint import Best, Progress, load_checkpoint, save_checkpoint, sweep
from pipeline.config import Train
from pipeline.device import is_out_of_memory, machine_record, peak_memory_bytes, reset_peak_memory
from pipeline.errors import RefusedError, Stopped
from pipeline.evaluation import outputs, score, training_risk
from pipeline.feed import Feed
from pipeline.finite import check_finite
from pipeline.keys import differences
from pipeline.learner import Learner, learning_rate, make_learner
from pipeline.metrics import EpochRecord, metrics_content, metrics_lines
from pipeline.problem import Problem
from pipeline.progress import Reporter, duration, size
from pipeline.ranking import filter_scores
from pipeline.record import Kept, Session, StageRecord
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from pipeline.step import naming_step, train_step
from pipeline.weights import load_modules, module_tensors, save_tensors


def fit(
    run: RunFolder,
    problem: Problem,
    feed: Feed,
    report: Reporter,
    *,
    recompute: bool = False,
    strict: bool,
    should_stop: Callable[[], bool],
) -> None:
    """Fit, test and keep what is trained on a feed of x_j. Raises like `train_stage`.

    With `recompute`, a step keeps only the inputs of its parts for the backward pass.
    """
    make_folder(problem.folder.path)
    reset_peak_memory(feed.device)
    learner = make_learner(run, problem, feed.device, recompute=recompute)
    fitting = _Fit(run, problem, feed, learner, report, should_stop)
    fitting.join(strict=strict)
    fitting.train()
    fitting.finish()


class _Fit:
    """A problem on its way, from its last checkpoint if there is one."""

    def __init__(
        self,
        run: RunFolder,
        problem: Problem,
        feed: Feed,
        learner: Learner,
        report: Reporter,
        should_stop: Callable[[], bool],
    ) -> None:
        self.run = run
        self.problem = problem
        self.what = problem.what
        self.feed = feed
        self.learner = learner
        self.report = report
        self.folder = problem.folder
        self.config = problem.train
        self._should_stop = should_stop
        self._counted = time.perf_counter()
        """Up to when the epoch's seconds are counted."""
        self.state = load_checkpoint(
            self.folder, learner, report, batch_size=feed.batch_size, epoch_samples=feed.epoch_samples
        )

    def join(self, *, strict: bool) -> None:
        """Note the machine. Raises RefusedError where it is another than before and that is to be strict."""
        state, settings = self.state, self.run.config.machine
        machine = machine_record(self.feed.device, self.feed.dtype)
        machine |= {"compiled": settings.compile, "deterministic": settings.deterministic}
        machine |= {"micro_batch": self.feed.micro_batch}
        changes = "; ".join(differences(state.sessions[-1].machine, machine)) if state.sessions else ""
        if changes and strict:
            raise RefusedError(
                f"{self.what} was begun on another machine, and --strict is given: {changes}\n"
                f"next: go on as it was begun, leave out --strict, or move {self.folder.path} away"
            )
        if changes:
            self.report.say(
                f"{self.what} was begun on another machine: {changes}; the last bits of its result may differ from "
                f"an uninterrupted training's (--strict refuses)"
            )
        if changes or not state.sessions:
            here = Session(machine=machine, epoch=len(state.epochs), consumed=state.under_way.consumed)
            state.sessions.append(here)

    def train(self) -> None:
        """Train to the last epoch."""
        self._say_beginning()
        if self.config.keep == "best" and self.state.best is None:
            self._look(0)
        for epoch in range(len(self.state.epochs), self.problem.epochs):
            if epoch >= self.config.epochs and not self.learner.kept:
                self._compress()
            self._prepare(epoch)
            record = self._epoch(epoch)
            self.state.epochs.append(record)
            self.state.under_way = Progress.fresh(self.feed.device)
            replace_file(self.folder.metrics, metrics_lines(self.state.epochs))
            save_checkpoint(self.folder, self.learner, self.state)
            self._say_epoch(record)

    def _prepare(self, epoch: int) -> None:
        """Learning rate of an epoch, and momentum where it begins."""
        (config, since), optimiser = self._schedule(epoch), self.learner.optimiser
        optimiser.lr = learning_rate(config, since)
        drops = config.schedule == "step" and since % config.lr_drop_every == 0
        if since and config.reset_momentum and drops and not self.state.under_way.consumed:
            optimiser.reset()

    def _schedule(self, epoch: int) -> tuple[Train, int]:
        """How an epoch is trained, and which one it is of its schedule, which begins anew after a compression."""
        if epoch < self.config.epochs:
            return self.config, epoch
        compress = self.problem.compress
        assert compress is not None, "only that takes more epochs"
        tuning = msgspec.structs.replace(self.config, epochs=compress.epochs, lr=compress.lr)
        return tuning, epoch - self.config.epochs

    def _compress(self) -> None:
        """Rank the filters of the trained block, cut the weakest off, and keep what is left."""
        began, shape = time.perf_counter(), self.problem.shape
        scores = filter_scores(self.learner, self.feed, self.config.epochs, self.report, self._should_stop)
        self.learner.keep(strongest(scores, shape.out_channels))
        self.state.under_way.seconds += time.perf_counter() - began
        save_checkpoint(self.folder, self.learner, self.state)
        self.report.say(
            f"{self.what}  {shape.cut_from} -> {shape.out_channels} filters; "
            f"the head is tuned for {self.problem.epochs - self.config.epochs} epochs"
        )

    def _epoch(self, epoch: int) -> EpochRecord:
        """An epoch from where it is, and its validation. Where that is stopped, a checkpoint."""
        feed, progress, waits = self.feed, self.state.under_way, self.feed.waits
        began = self._counted = time.perf_counter()
        try:
            with naming_step():
                self._steps(epoch)
            trained = time.perf_counter()
            check_finite(self.problem, feed, self.learner, epoch, progress)
            with self._kept_where_there_is_no_memory(epoch):
                validation = self._validation_accuracy()
                risk = self._look(epoch + 1) if self.config.keep == "best" else None
        except Stopped:
            self._checkpoint(epoch)
            raise
        seen, loss, correct = (value.item() for value in (progress.seen, progress.loss, progress.correct))
        by_cause = {cause: (seconds - waits[cause]) / (trained - began) for cause, seconds in feed.waits.items()}
        return EpochRecord(
            epoch=epoch,
            lr=learning_rate(*self._schedule(epoch)),
            train_loss=loss / seen,
            train_accuracy=100 * correct / seen,
            validation_accuracy=validation,
            train_risk=risk,
            images_per_second=seen / (progress.seconds.item() + trained - self._counted),
            wait_share=sum(by_cause.values()),
            wait_by_cause=by_cause,
            peak_memory_bytes=peak_memory_bytes(feed.device),
            seconds=progress.seconds.item() + time.perf_counter() - self._counted,
        )

    def _steps(self, epoch: int) -> None:
        """The steps of an epoch from where it is; on the way, a checkpoint now and then."""
        feed, progress, total = self.feed, self.state.under_way, self.feed.epoch_samples
        if progress.consumed == total:  # stopped in its validation
            return
        began = saved = time.perf_counter()
        first, waited = progress.consumed, sum(feed.waits.values())
        every_seconds = 60 * self.run.config.machine.checkpoint_minutes
        self.learner.train(True)
        with (
            self.report.task(f"{self.what} epoch {epoch + 1}/{self.problem.epochs}", total) as task,
            closing(feed.training(epoch, start=first)) as micro_batches,
        ):
            while progress.consumed < total:
                samples = min(feed.batch_size, total - progress.consumed)
                parts = islice(micro_batches, -(-samples // feed.micro_batch))
                train_step(self.learner, parts, samples, feed.dtype, progress)
                if self._should_stop():
                    raise Stopped(
                        f"{self.what}, epoch {epoch + 1}: stopped after {progress.consumed:,} of {total:,} images, "
                        f"which {self.folder.checkpoint} holds"
                    )
                now = time.perf_counter()
                if now - saved >= every_seconds and progress.consumed < total:
                    self._checkpoint(epoch)
                    saved = now
                if task.wants_detail:
                    rate = (progress.consumed - first) / (now - began)
                    waiting = (sum(feed.waits.values()) - waited) / (now - began)
                    task.update(progress.consumed, self._detail(epoch, rate, waiting))

    def _checkpoint(self, epoch: int) -> None:
        """A checkpoint within an epoch, if all that goes in is numbers."""
        check_finite(self.problem, self.feed, self.learner, epoch, self.state.under_way)
        now = time.perf_counter()
        self.state.under_way.seconds += now - self._counted
        self._counted = now
        save_checkpoint(self.folder, self.learner, self.state)

    @contextmanager
    def _kept_where_there_is_no_memory(self, epoch: int) -> Iterator[None]:
        """Around what follows an epoch's last step: where the device has no room for it, a checkpoint keeps these."""
        try:
            yield
        except RuntimeError as error:
            if is_out_of_memory(error):
                self._checkpoint(epoch)
            raise

    def _validation_accuracy(self) -> float | None:
        if "validation" not in self.run.splits:
            return None
        self.learner.train(False)
        return score(*outputs(self.feed, self.learner.logits, "validation"), classes=self.run.classes).top1

    def _look(self, epochs: int) -> float:
        """The training risk after so many epochs; where it is the least so far, the weights are put aside."""
        learner, best = self.learner, self.state.best
        learner.train(False)
        risk = training_risk(self.feed, learner.logits)
        if best is None or risk.loss < best.point.risk:
            start = risk.loss if best is None else best.point.start_risk
            point = Kept(epochs=epochs, risk=risk.loss, accuracy=risk.accuracy, start_risk=start)
            tensors = module_tensors(block=learner.block, head=learner.head)
            self.state.best = Best(point, {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()})
        return risk.loss

    def finish(self) -> None:
        """Take the best point, where it is to be kept; test once, and keep weights, outputs and, last, the record."""
        folder, learner, epochs, best = self.folder, self.learner, self.state.epochs, self.state.best
        validation = epochs[-1].validation_accuracy
        if best is not None:
            load_modules(best.tensors, folder.checkpoint, block=learner.block, head=learner.head)
            validation = self._validation_accuracy()
        learner.train(False)
        logits, y = outputs(self.feed, learner.logits, "test")
        test = score(logits, y, classes=self.run.classes)
        content = {
            path.stem: save_tensors(path, tensors)
            for path, tensors in (
                (folder.block, module_tensors(block=learner.block)),
                (folder.head, module_tensors(head=learner.head)),
                (folder.test_logits, {"logits": logits}),
            )
        }
        record = StageRecord(
            j=folder.j,
            key=self.problem.key,
            fields=self.problem.fields,
            accepted=[stage for stage in self.run.accepted if stage.stage < self.problem.j],
            parameters={"block": parameter_count([learner.block]), "head": parameter_count([learner.head])},
            train_accuracy=best.point.accuracy if best else epochs[-1].train_accuracy,
            validation_accuracy=validation,
            best=best.point if best else None,
            test_accuracy=test.top1,
            balanced_test_accuracy=test.balanced,
            seconds=sum(epoch.seconds for epoch in epochs),
            peak_memory_bytes=max(epoch.peak_memory_bytes for epoch in epochs),
            device=str(self.feed.device),
            machine=self.state.sessions[-1].machine,
            sessions=self.state.sessions,
            content=content,
            metrics=metrics_content(epochs),
            kept=learner.kept,
        )
        write_sealed(folder.record_path, record)
        sweep(folder)
        kept = f", kept after epoch {best.point.epochs} at a risk of {best.point.risk:.4f}" if best else ""
        self.report.say(f"{self.what}  done: test {test.top1:.2f}%{kept}, in {duration(record.seconds)}")

    def _say_beginning(self) -> None:
        learner, state, output = self.learner, self.state, "x".join(map(str, self.problem.shape.before_cut.output))
        consumed, blocks = state.under_way.consumed, self.problem.blocks
        on = f"{output}, "
        if blocks:
            shape = self.run.shapes[blocks[0]]
            on = f"{'block' if len(blocks) == 1 else f'blocks {blocks[0]}..{blocks[-1]}'} "
            on += f"{shape.in_channels}x{shape.in_side}x{shape.in_side} -> {output}, "
            on += f"{parameter_count([learner.block]):,} parameters, "
        self.report.say(
            f"{self.what}: {self.feed.source}; {on}head {parameter_count([learner.head]):,}; "
            f"{str(self.feed.dtype).removeprefix('torch.')} on {self.feed.device}"
            + (f"; in micro-batches of {self.feed.micro_batch}" if self.feed.micro_batch < self.feed.batch_size else "")
            + (f"; going on at epoch {len(state.epochs) + 1}" if state.epochs or consumed else "")
            + (f", image {consumed:,}" if consumed else "")
        )

    def _say_epoch(self, record: EpochRecord) -> None:
        left = duration(record.seconds * (self.problem.epochs - record.epoch - 1))
        validation = "" if record.validation_accuracy is None else f"  validation {record.validation_accuracy:5.2f}%"
        self.report.say(
            f"{self.what}  epoch {record.epoch + 1:>2}/{self.problem.epochs}  lr {record.lr:<7.4g} "
            f"loss {record.train_loss:.4f}  train {record.train_accuracy:5.2f}%{validation}  "
            f"{record.images_per_second:,.0f} images/s  waiting {record.wait_share:.0%}  "
            f"{size(record.peak_memory_bytes)}  {left} left"
        )

    def _detail(self, epoch: int, rate: float, waiting: float) -> str:
        """What the live line shows of an epoch under way."""
        total = self.feed.epoch_samples
        epochs_left = self.problem.epochs - epoch - 1
        left = duration((total - self.state.under_way.consumed + total * epochs_left) / rate)
        return f"{rate:,.0f} images/s  waiting {waiting:.0%}  {size(peak_memory_bytes(self.feed.device))}  {left} left"
