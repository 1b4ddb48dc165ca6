"""Golden digests: what must not change under one number of pipeline.keys.ALGORITHM, whatever the machine.

A change of the code that moves one of them gives other results under the same keys. Then raise ALGORITHM, and
`python -m tests.test_golden` writes tests/golden.json anew; under the same number it only adds what is missing.

They hold on any CPU: wherever a kernel sums, its weights and inputs are small whole numbers, or these times a power of
two, whose sums are exact in float32 in whatever order; batch norm, softmax and logarithms are left out, and batches are
smaller than the 16 from which torch may take Winograd's algorithm. Divisions and multiplications of single numbers are
rounded alike by every processor.
"""

import hashlib
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cache import Store, decode, encode
from cascade import Quantiser, calibrate
from pipeline import augmentation
from pipeline.calibration import calibrate_output
from pipeline.checkpoint import Progress
from pipeline.config import Augment, Data
from pipeline.draws import Purpose, below, draw, permutation
from pipeline.feed import Feed
from pipeline.keys import ALGORITHM
from pipeline.learner import make_learner
from pipeline.networks import load_quantiser, new_block
from pipeline.order import sequential_windows, training_windows
from pipeline.problem import stage_problem
from pipeline.progress import Reporter
from pipeline.record import StageRecord
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from pipeline.sources import Source, Split
from pipeline.splits import split_indices
from pipeline.step import train_step
from pipeline.weights import module_tensors, save_tensors
from pipeline.writeback import write_output
from tests.images import config, ingested, npz

GOLDEN = Path(__file__).with_name("golden.json")
COMMAND = "python -m tests.test_golden"
CPU = torch.device("cpu")
IDS = np.arange(50)
WHOLE: dict[str, dict[str, Any]] = {
    "network": {"batch_norm": False, "precision": "float32", "downsample_at": [1]},
    "head": {"k": 2, "width": 4},
    "augment": {"policy": "views", "views": 2, "padding": 1, "flip": True},
    "train": {"batch_size": 8, "lr": 0.125, "momentum": 0.5, "weight_decay": 0.0625},
    "data": {"validation": 0.0},
    "store": {"codec": "none"},
}
"""Settings under which a step of training is exact."""


def digest(arrays: Iterable[Any]) -> str:
    """SHA-256 over type, shape and numbers of arrays or tensors, little endian."""
    sha = hashlib.sha256()
    for array in arrays:
        numbers = np.asarray(array.detach().contiguous() if isinstance(array, Tensor) else array)
        sha.update(f"{numbers.dtype.name} {numbers.shape}".encode())
        sha.update(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()


def small_numbers(*shape: int, seed: int = 0, values: int = 5) -> Tensor:
    """Whole numbers around zero, float32."""
    drawn = below(values, draw(seed, Purpose.WEIGHTS, np.arange(math.prod(shape)))) - values // 2
    return torch.from_numpy(drawn.reshape(shape).astype(np.float32))


def fill(module: nn.Module, *, seed: int, scale: float = 1.0) -> None:
    """Weights of small whole numbers, times a power of two."""
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(module.named_parameters())):
            parameter.copy_(scale * small_numbers(*parameter.shape, seed=100 * seed + number, values=3))


def run_folder(folder: Path, **changed: dict[str, Any]) -> RunFolder:
    """40 images of 8x8, half of their pixels black and half white: normalised, exactly -1 and 1."""
    half = np.repeat(np.array([0, 255], np.uint8), 32)
    images = np.stack([half[permutation(64, 7, Purpose.INGEST_ORDER, i)].reshape(8, 8) for i in range(52)])
    source = npz(folder / "data.npz", train_images=images[:40], test_images=images[40:])
    sections = {name: WHOLE.get(name, {}) | changed.get(name, {}) for name in {**WHOLE, **changed}}
    ingested(folder / "run", source, skip_bad=False, **sections)
    return RunFolder(folder / "run", config(source, **sections))


def draws(_: Path) -> Iterable[Any]:
    aside = (Purpose.VERIFY, Purpose.TRANSFER_SPLIT)  # which decide no result of a stage
    for purpose in [purpose for purpose in Purpose if purpose not in aside]:
        yield draw(3, purpose, 1, IDS, 2)
    yield draw(2**63 - 1, Purpose.RUN_ORDER, np.arange(3)[:, None], IDS)
    for bound in (1, 2, 7, 1000):
        yield below(bound, draw(3, Purpose.RUN_VIEW, IDS))
    for n in (1, 2, 100, 1000):
        yield permutation(n, 5, Purpose.SAMPLE_ORDER, n)


def order(_: Path) -> Iterable[Any]:
    for samples, views, epoch in ((1, 1, 0), (100, 4, 0), (100, 4, 1), (1000, 3, 7)):
        for window in training_windows(samples, run=8, window=32, views=views, seed=5, stage=2, epoch=epoch):
            yield from (window.rows, window.views)
    for window in sequential_windows(100, run=8, window=32, view=2):
        yield from (window.rows, window.views)


def windows(_: Path) -> Iterable[Any]:
    padded, cropped = Augment(padding=4, flip=True), Augment(crop=24, flip=True)
    for augment in (padded, cropped, Augment(crop=24, padding=2)):
        views = IDS % 3
        drawn = [
            augmentation.fresh_draws(augment, 32, IDS, seed=1, stage=0, epoch=3),
            augmentation.fresh_draws(augment, 32, IDS, seed=1, stage=2, epoch=3),
            augmentation.view_draws(augment, 32, IDS, views, seed=1),
            augmentation.centre_windows(augment, 32, 50),
            augmentation.canvas_draws(20, 16, IDS, seed=1, stage=2, epoch=3),
            augmentation.centre_of(21, 16, 50),
        ]
        for one in drawn:
            yield from (np.array([one.side, one.padding]), one.top, one.left, one.flip)
        images = small_numbers(50, 2, 32, 32, values=200)
        yield augmentation.cut(images, drawn[0])
        yield augmentation.cut(images, augmentation.canvases(augment, 32, IDS % (1 + augment.flip)))


def encodings(_: Path) -> Iterable[Any]:
    x, scale = small_numbers(3, 4, 5, 5, values=4000) / 8, np.array([1, 0.5, 0.03, 40], np.float32)
    for encoding in ("float32", "float16", "uint8", "uint4"):
        quantiser = Quantiser(encoding, 4)
        quantiser.scale.copy_(torch.from_numpy(scale))
        stored = encode(x.numpy(), encoding, scale)
        yield from (stored, decode(stored, encoding, scale, 5))
        assert torch.equal(quantiser.encode(x), torch.from_numpy(stored))
        yield from (quantiser.encode(x), quantiser(x))
    quantiser = Quantiser("uint8", 4)
    calibrate(quantiser, lambda: [x])
    yield quantiser.scale


def ingest_order(_: Path) -> Iterable[Any]:
    def split(count: int, classes: int) -> Split:
        return Split(np.arange(count) * 7 % classes, lambda i: Image.new("L", (1, 1)), str)

    source = Source(split(101, 5), split(20, 5), ("a", "b", "c", "d", "e"))
    for validation, seed in ((0.0, 0), (0.1, 0), (0.3, 4)):
        for name, ids in split_indices(source, Data(source="", validation=validation, seed=seed)).items():
            yield from (np.frombuffer(name.encode(), np.uint8), ids)


def initial_weights(folder: Path) -> Iterable[Any]:
    """Of stages 0 and 1, the second of which samples down, with batch norm and without, and heads of every depth."""
    kinds = itertools.product((True, False), ("invertible", "strided"), (1, 3))
    for number, (batch_norm, downsample, k) in enumerate(kinds):
        network = {**WHOLE["network"], "batch_norm": batch_norm, "downsample": downsample}
        (folder / str(number)).mkdir()
        run = run_folder(folder / str(number), network=network, head={"k": k})
        for j in range(2):
            for name, tensor in sorted(make_learner(run, stage_problem(run, j), CPU).tensors().items()):
                yield from (np.frombuffer(name.encode(), np.uint8), tensor)


def block_forward(folder: Path) -> Iterable[Any]:
    run = run_folder(folder)
    for j, side in ((0, 8), (1, 8)):
        block = new_block(run, j)
        fill(block, seed=j)
        yield block(small_numbers(8, run.shapes[j].in_channels, side, side, seed=9))


def training_steps(folder: Path) -> Iterable[Any]:
    """Two steps of SGD, with momentum and weight decay, from the batches of an epoch; the loss is linear.

    Each from weights of small whole numbers: after a step they have too many bits for exact sums. Momentum stays.
    """
    run = run_folder(folder)
    learner = make_learner(run, stage_problem(run, 0), CPU)
    progress = Progress.fresh(CPU)
    learner.train(True)
    for x, y in itertools.islice(Feed(run, 0, CPU).training(0), 2):
        fill(learner.block, seed=1, scale=0.5)
        fill(learner.head, seed=2, scale=0.5)
        with patch("pipeline.step.cross_entropy", linear_loss):
            train_step(learner, [(x, y)], len(y), torch.float32, progress)
        yield from (x, y, progress.loss, progress.correct, progress.seen)
        yield from (tensor for _, tensor in sorted(learner.tensors().items()))


def linear_loss(logits: Tensor, y: Tensor, reduction: str, label_smoothing: float = 0.0) -> Tensor:
    """In the place of the sum of cross entropies, whose logarithms round differently elsewhere."""
    assert reduction == "sum"
    return (logits.sum() - 3 * logits.gather(1, y[:, None]).sum()) / 8


def record(run: RunFolder, content: str) -> None:
    """Say that stage 0 is trained, with a block of this content."""
    numbers = {"train_accuracy": 0.0, "validation_accuracy": None, "test_accuracy": 0.0, "balanced_test_accuracy": 0.0}
    cost = {"parameters": {}, "seconds": 0.0, "peak_memory_bytes": 0, "device": "cpu", "machine": {}, "sessions": []}
    known = {"j": 0, "key": run.stages[0].key, "fields": run.fields[0], "content": {"block": content}, "metrics": ""}
    write_sealed(run.stages[0].record_path, msgspec.convert({**known, **numbers, **cost}, StageRecord))


def written(folder: Path, **changed: dict[str, Any]) -> Iterable[Any]:
    """Scale, decoded numbers, labels and ids of all splits of x_1."""
    run = run_folder(folder, **changed)
    block = new_block(run, 0)
    fill(block, seed=1, scale=0.5)
    run.stages[0].path.mkdir(parents=True)
    record(run, save_tensors(run.stages[0].block, module_tensors(block=block)))
    calibrate_output(run, 0, CPU)
    write_output(run, 0, Feed(run, 0, CPU), Reporter())
    yield load_quantiser(run, 0).scale
    for split in run.splits:
        store = Store(run.store(1, split))
        for view in range(store.views):
            for number in range(store.chunks_per_view):
                stored = np.zeros((store.chunk_samples, *store.stored_shape), store.dtype)
                store.read_chunk(view, number, stored)
                yield decode(stored, store.encoding, store.scale, store.sample_shape[-1])
        yield from (store.y, store.sample_id)


GOLDENS: dict[str, Callable[[Path], Iterable[Any]]] = {
    "draws and permutations": draws,
    "order of training and views": order,
    "windows of each policy": windows,
    "encodings": encodings,
    "order of ingest and held-out share": ingest_order,
    "initial weights": initial_weights,
    "forward pass of a block": block_forward,
    "steps of SGD": training_steps,
    "written back, views in uint8": lambda folder: written(folder, store={"encoding": "uint8"}),
    "written back, canvas in float16": lambda folder: written(folder, augment={"policy": "canvas", "views": 4}),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_results_are_those_of_this_number_of_the_algorithm(tmp_path: Path, name: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["algorithm"] == ALGORITHM, f"ALGORITHM is raised: write the new digests with `{COMMAND}`"
    assert digest(GOLDENS[name](tmp_path)) == golden["digests"][name], (
        f"results changed ({name}): undo that, or raise pipeline.keys.ALGORITHM, so that stages trained before show "
        f"as stale, and write the new digests with `{COMMAND}`"
    )


def test_every_digest_has_its_computation() -> None:
    assert json.loads(GOLDEN.read_text())["digests"].keys() == GOLDENS.keys()


def write() -> None:
    """Write the digests of this number of the algorithm; others under the same number are refused."""
    torch.set_num_threads(1)
    digests = {}
    for name, compute in GOLDENS.items():
        with tempfile.TemporaryDirectory() as folder:
            digests[name] = digest(compute(Path(folder)))
    before = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"algorithm": None, "digests": {}}
    changed = [name for name in digests if before["digests"].get(name, digests[name]) != digests[name]]
    if changed and before["algorithm"] == ALGORITHM:
        sys.exit(f"results changed ({', '.join(changed)}) under ALGORITHM = {ALGORITHM}: raise it first")
    GOLDEN.write_text(json.dumps({"algorithm": ALGORITHM, "digests": digests}, indent=2) + "\n")
    print(f"{GOLDEN} written: {len(digests)} digests, {len(changed)} of them other than before")


if __name__ == "__main__":
    write()
