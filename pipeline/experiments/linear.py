"""Linear separability of x_j: averaged to 2 x 2, standardised, one logistic regression for each class against the rest.

The strength of the regularisation is chosen on a fifth of the training samples, and the classifier then fitted on all.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import BudgetError, make_folder
from cascade.heads import QUADRANTS, quadrants
from pipeline.device import machine_record, peak_memory_bytes, reset_peak_memory
from pipeline.errors import CascadeError
from pipeline.evaluation import outputs, score
from pipeline.experiments.places import PROBE_RECORD
from pipeline.experiments.probes import LinearRecord, linear_fields, probe_folder
from pipeline.feed import Feed
from pipeline.keys import key_of
from pipeline.progress import Reporter, duration, size
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from pipeline.stopping import check_stop

CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""On a thousand images of digits or CIFAR-10 often 1 or more is best, on 5,000 of CIFAR-10 0.01 or 0.1."""
HELD_OUT = 5
"""One training sample in so many chooses C."""
MAX_ITERATIONS = 300
TOLERANCE = 1e-3
Features = NDArray[np.float32]


def fit_linear(
    run: RunFolder, j: int, device: torch.device, report: Reporter, *, should_stop: Callable[[], bool]
) -> LinearRecord:
    """Fit, test and keep the linear probe of x_j. The caller holds the folder.

    Raises RefusedError where x_j cannot be had, BudgetError where its features have no room in the host's memory,
    Stopped: nothing is kept then, and nothing of it takes long.
    """
    what, began = f"linear on x_{j}", time.perf_counter()
    reset_peak_memory(device)
    fields = linear_fields(run, j)
    x, y = _features(run, j, device, fields["probe.samples"], should_stop)
    mean, deviation = _standardise(x)
    c, held_out = _chosen(x, y, run.classes, should_stop, what)
    weights, bias, not_converged = _fitted(x, y, run.classes, [c], should_stop, what)[0]
    train = _percent(_decisions(x, weights, bias).argmax(1) == y)
    network = _classifier(weights, bias, mean, deviation, device)
    accuracy = {}
    for split in ("validation", "test"):
        if split in run.splits:
            feed = _feed(run, j, device, should_stop)
            accuracy[split] = score(*outputs(feed, network, split), classes=run.classes).top1
    record = LinearRecord(
        j=j,
        key=key_of(fields),
        fields=fields,
        accepted=[stage for stage in run.accepted if stage.stage < j],
        samples=len(x),
        c=c,
        held_out_accuracy=held_out,
        train_accuracy=train,
        validation_accuracy=accuracy.get("validation"),
        test_accuracy=accuracy["test"],
        not_converged=not_converged,
        seconds=time.perf_counter() - began,
        peak_memory_bytes=peak_memory_bytes(device),
        device=str(device),
        machine=_machine(device, feed.dtype),
    )
    folder = probe_folder(run, j, "linear").path
    make_folder(folder)
    write_sealed(folder / PROBE_RECORD, record)
    report.say(
        f"{what}: {feed.source}; {len(x):,} samples, C = {c:g}, train {train:.2f}%, test {record.test_accuracy:.2f}%, "
        f"in {duration(record.seconds)}"
        + (f"; {not_converged} of {run.classes} classes not converged" if not_converged else "")
        + (f"; {record.edge}" if record.edge else "")
    )
    return record


def _features(
    run: RunFolder, j: int, device: torch.device, count: int, should_stop: Callable[[], bool]
) -> tuple[Features, NDArray[np.int64]]:
    """x_j of the first training samples, which are in random order, in the test-time window; and their labels.

    Stored views show other windows: under "views" they are made from the images.
    """
    length = run.input_shape(j)[0] * QUADRANTS**2
    if (needed := 4 * count * length) > run.host_bytes:
        raise BudgetError(
            f"linear on x_{j}: {length} numbers of {count:,} samples take {size(needed)} of host memory, and "
            f"budget.host leaves {size(run.host_bytes)}\n"
            f"next: fewer samples, as in --samples {run.host_bytes // (4 * length)}"
        )
    anchor = 0 if run.config.augment.policy == "views" else None
    feed = Feed(
        run,
        j,
        device,
        anchor=anchor,
        streamed=True,
        sequential_only=True,
        what=f"linear on x_{j}",
        should_stop=should_stop,
    )
    x, labels, first = np.empty((count, length), np.float32), np.empty(count, np.int64), 0
    for z, labels_of in feed.sequential("train", _averaged, limit=count):
        rows = slice(first, first + len(z))
        x[rows], labels[rows], first = z.cpu().numpy(), labels_of.cpu().numpy(), rows.stop
    return x, labels


def _feed(
    run: RunFolder, j: int, device: torch.device, should_stop: Callable[[], bool], *, anchor: int | None = None
) -> Feed:
    """x_j, with as little memory as that takes."""
    what = f"linear on x_{j}"
    return Feed(run, j, device, anchor=anchor, streamed=True, sequential_only=True, what=what, should_stop=should_stop)


def _averaged(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, 4 C) in float32."""
    return quadrants(x.float()).flatten(1)


def _standardise(x: Features) -> tuple[Features, Features]:
    """Bring every feature to mean 0 and deviation 1 in place; one that is constant to 0. What they were."""
    mean, deviation = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    deviation[deviation == 0] = 1
    mean, deviation = mean.astype(np.float32), deviation.astype(np.float32)
    x -= mean
    x /= deviation
    return mean, deviation


def _chosen(
    x: Features, y: NDArray[np.int64], classes: int, should_stop: Callable[[], bool], what: str
) -> tuple[float, dict[str, float]]:
    """The C that is best on the last fifth when fitted on the rest, the smallest of equals; and what each came to."""
    cut = len(x) - max(len(x) // HELD_OUT, 1)
    fits = _fitted(x[:cut], y[:cut], classes, CS, should_stop, what)
    found = [_percent(_decisions(x[cut:], w, b).argmax(1) == y[cut:]) for w, b, _ in fits]
    return CS[int(np.argmax(found))], {f"{c:g}": accuracy for c, accuracy in zip(CS, found, strict=True)}


Fit = tuple[NDArray[np.float64], NDArray[np.float64], int]
"""Weights (classes, features), bias (classes,), and how many classes did not converge."""


def _fitted(
    x: Features,
    y: NDArray[np.int64],
    classes: int,
    cs: tuple[float, ...] | list[float],
    should_stop: Callable[[], bool],
    what: str,
) -> list[Fit]:
    """Each class against the rest, for each C in turn from where the smaller one ended."""
    weights = np.zeros((len(cs), classes, x.shape[1]))
    bias, unsettled = np.zeros((len(cs), classes)), np.zeros(len(cs), int)
    for one in range(classes):
        is_one = y == one
        if is_one.all() or not is_one.any():
            bias[:, one] = 0 if is_one.all() else -np.inf
            continue
        for number, (w, b, converged) in enumerate(_one_against_rest(x, is_one, cs, should_stop, what)):
            weights[number, one], bias[number, one] = w, b
            unsettled[number] += not converged
    return [(weights[i], bias[i], int(unsettled[i])) for i in range(len(cs))]


def _one_against_rest(
    x: Features,
    is_one: NDArray[np.bool_],
    cs: tuple[float, ...] | list[float],
    should_stop: Callable[[], bool],
    what: str,
) -> list[tuple[NDArray[np.float64], float, bool]]:
    """Weights, bias and whether it converged, for each C."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    found = []
    model = LogisticRegression(warm_start=True, max_iter=MAX_ITERATIONS, tol=TOLERANCE)
    for c in cs:
        check_stop(should_stop, what)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=c).fit(x, is_one)
        w, b = model.coef_[0].astype(np.float64), float(model.intercept_[0])
        if not np.isfinite(w).all() or not np.isfinite(b):
            raise CascadeError(f"{what}: the regression came to weights that are no numbers\nnext: fewer --samples")
        found.append((w, b, int(model.n_iter_[0]) < MAX_ITERATIONS))
    return found


def _decisions(x: Features, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float32]:
    decisions: NDArray[np.float32] = x @ weights.T.astype(np.float32) + bias.astype(np.float32)
    return decisions


def _percent(hits: NDArray[np.bool_]) -> float:
    """How many are true, of 100."""
    return 100 * int(hits.sum()) / len(hits)


def _classifier(
    weights: NDArray[np.float64],
    bias: NDArray[np.float64],
    mean: Features,
    deviation: Features,
    device: torch.device,
) -> Callable[[Tensor], Tensor]:
    """Standardisation and the decisions as a function of x_j on the device."""
    w, b, m, d = (torch.from_numpy(values.astype(np.float32)).to(device) for values in (weights, bias, mean, deviation))

    def decide(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return (_averaged(x) - m) / d @ w.T + b

    return decide


def _machine(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    import sklearn

    return {**machine_record(device, dtype), "scikit-learn": sklearn.__version__}
