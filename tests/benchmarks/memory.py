"""Device memory of training a network end to end, with what there is against its growth, and stage by stage.

    python -m tests.benchmarks.memory --preset imagenet-k3 --stages 8 16 64 --widths 128 512 --micro-batch 32

The same architecture, batch, micro-batch and heads on both sides. End to end, with the last stage's head and torch's
optimiser:

- the batch at once;
- micro-batches, whose gradients are summed;
- the same, of every block and layer of the head only the input kept, the rest computed again (torch.utils.checkpoint);
- that with this project's optimiser, which sums gradients in the momentum;
- micro-batches, with what the backward pass needs kept on the host (torch.autograd.graph.save_on_cpu).

By stages, the worst of them: of training on micro-batches; of all a stage does, evaluation, calibration and write-back
in runs of as many samples too, where it reads x_j; and where it replays its whole prefix from images, with streamed
weights. Heads at full resolution, pooled, and pooled and checkpointed.

On fake tensors, which say what is allocated and not how fast; with `--device cuda` or `cpu` training is measured, at
all stages of another shape than the one before, and images/s are of training alone, x_j at hand: by stages, of all of
them one after the other.
"""

import argparse
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cascade import StageShape, make_block, make_head, recomputed, stage_parts, stage_shapes
from pipeline.config import Config, Train, parse_bytes
from pipeline.config_file import read_config
from pipeline.device import choose_device
from pipeline.learner import make_optimiser
from pipeline.ledger import Name, Program, memory_of
from pipeline.measure import measured_peak
from pipeline.peak import Peak, Work, predicted_peak
from pipeline.presets import preset_text
from pipeline.programs import BUFFERS, PARAMETERS, Trained, materialise, take_steps, training
from pipeline.progress import size
from tests.benchmarks import machine

CLASSES = 1000
CANVAS = 256
"""Side of the stored images."""
HEADS = {
    "stage, full-resolution head": (1, False),
    "stage, pooled head": (2, False),
    "stage, pooled, checkpointed": (2, True),
}
"""Name -> the head's pool, and whether the stage keeps only the inputs of its parts."""
WAYS = {
    "at once": "end to end, batch at once",
    "summed": "end to end, micro-batches",
    "checkpointed": "end to end, checkpointed",
    "in momentum": "  and summed in momentum",
    "offloaded": "end to end, offloaded",
}
"""Of training end to end, and what a table calls them."""
STEPS = 2
"""Of an end-to-end program: from the second on torch's optimiser holds momentum."""
PARTS = 2
"""Micro-batches of a step: a third one takes what the second took."""
Steps = Callable[[int], Program]
"""A program of so many steps."""


def network(config: Config, *, stages: int, width: int, head_width: int, pool: int, side: int) -> list[StageShape]:
    """A preset's network with as many blocks of a width; it samples down after the same shares of its depth.

    Heads double in width like the preset's, up to `head_width`; 0 is no limit.
    """
    own = config.network
    shapes = stage_shapes(
        stages=stages,
        in_channels=3,
        in_side=side,
        width=width,
        head_width=config.head.width * width // own.width,
        downsample_at=[j * stages // own.stages for j in own.downsample_at],
        downsample=own.downsample,
        head_pool=pool,
    )
    return [replace(shape, head_width=min(shape.head_width, head_width or shape.head_width)) for shape in shapes]


def end_to_end(config: Config, shapes: Sequence[StageShape], way: str, dtype: torch.dtype, side: int) -> Steps:
    """Training of all blocks and the last head, in one of WAYS."""

    def made(steps: int) -> Program:
        norm = config.network.batch_norm
        with torch.device("meta"):
            blocks = [make_block(shape, batch_norm=norm) for shape in shapes]
            head = make_head(shapes[-1], k=config.head.k, classes=CLASSES, batch_norm=norm)
        whole = nn.Sequential(*blocks, head).to(memory_format=torch.channels_last)

        def run(device: torch.device, samples: int, name: Name) -> None:
            materialise([whole], device)
            name(PARAMETERS, whole.parameters())
            name(BUFFERS, whole.buffers())
            checkpointed = way in ("checkpointed", "in momentum")
            forward = recomputed(stage_parts(blocks, head)) if checkpointed else whole
            optimiser = make_optimiser([whole], Train()) if way == "in momentum" else Usual(whole)
            size = (samples, 3, side, side)
            with offloaded(device) if way == "offloaded" else nullcontext():
                parts = 1 if way == "at once" else PARTS
                take_steps(forward, optimiser, size, dtype, device, name, steps=steps, parts=parts)

        return run

    return made


class Usual:
    """torch.optim.SGD, as most networks are trained: its momentum apart, gradients dropped after each step."""

    def __init__(self, network: nn.Module) -> None:
        settings = Train()
        self._sgd = torch.optim.SGD(
            network.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )

    def begin(self) -> None:
        """Nothing is to be done."""

    def step(self) -> None:
        """Move the weights."""
        self._sgd.step()
        self._sgd.zero_grad(set_to_none=True)


def offloaded(device: torch.device) -> AbstractContextManager[Any]:
    """What is saved for the backward pass waits on the host; a fake tensor, which has none, is forgotten meanwhile."""
    if device.type == "cuda":
        return torch.autograd.graph.save_on_cpu(pin_memory=True)

    def back(saved: tuple[torch.Size, tuple[int, ...], torch.dtype]) -> Tensor:
        shape, stride, dtype = saved
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)

    return torch.autograd.graph.saved_tensors_hooks(lambda t: (t.shape, t.stride(), t.dtype), back)


def images_per_second(made: Steps, samples: int, device: torch.device, more: int, parts: int) -> float:
    """Of a training program whose steps have so many parts, from what `more` steps take longer."""
    seconds = []
    for steps in (STEPS, STEPS + more):
        program = made(steps)
        wait(device)
        began = time.perf_counter()
        program(device, samples, lambda name, tensors: None)
        wait(device)
        seconds.append(time.perf_counter() - began)
    return parts * samples * more / (seconds[1] - seconds[0])


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Bench:
    """One network, by all contenders."""

    def __init__(self, arguments: argparse.Namespace, config: Config, stages: int, width: int) -> None:
        self.arguments = arguments
        self.config = config
        self.stages = stages
        self.width = width
        self.dtype = getattr(torch, arguments.precision)
        self.device = None if arguments.device == "fake" else choose_device(arguments.device)

    def shapes(self, pool: int) -> list[StageShape]:
        a = self.arguments
        return network(
            self.config, stages=self.stages, width=self.width, head_width=a.head_width, pool=pool, side=a.side
        )

    def rows(self) -> list[dict[str, Any]]:
        """A record of each contender."""
        a, batch = self.arguments, self.config.train.batch_size
        rows = []
        for way in WAYS:
            if way not in a.ways:
                continue
            samples = batch if way == "at once" else a.micro_batch
            made = end_to_end(self.config, self.shapes(1), way, self.dtype, a.side)
            memory = memory_of(partial(made, STEPS))
            row = {
                "name": WAYS[way],
                "samples": samples,
                "peak_bytes": memory.peak(samples),
                **self._measured(made, samples, parts=1 if way == "at once" else PARTS),
            }
            rows.append({**row, "fits": self._fits(memory.peak) if way != "at once" else None})
        return rows + [self._worst(name, *head) for name, head in HEADS.items()]

    def peaks(self, pool: int, recompute: bool, micro_batch: int, *, replay: bool) -> list[Peak]:
        """The predicted peak of every stage, which reads x_j or replays its whole prefix."""
        shapes = tuple(self.shapes(pool))
        works = (self._work(shapes[: j + 1], pool, recompute, micro_batch) for j in range(self.stages))
        return [
            predicted_peak(work if replay else replace(work, anchor=len(work.shapes) - 1), micro_batch)
            for work in works
        ]

    def _worst(self, name: str, pool: int, recompute: bool) -> dict[str, Any]:
        samples = self.arguments.micro_batch
        reading, replaying = (self.peaks(pool, recompute, samples, replay=replay) for replay in (False, True))

        def largest(micro_batch: int) -> int:
            return max(peak.streamed for peak in self.peaks(pool, recompute, micro_batch, replay=False))

        training_bytes = [peak.training for peak in reading]
        from_images = [peak.training for peak in replaying]
        return {
            "name": name,
            "samples": samples,
            "peak_bytes": max(training_bytes),
            "stage": training_bytes.index(max(training_bytes)),
            "from_images_bytes": max(from_images),
            "reading_bytes": max(peak.streamed for peak in reading),
            "replaying_bytes": max(peak.streamed for peak in replaying),
            "last_stage_replaying_bytes": replaying[-1].streamed,
            "stages": {"reading": [vars(peak) for peak in reading], "replaying": [vars(peak) for peak in replaying]},
            **self._measured_stages(pool, recompute, samples),
            "fits": self._fits(largest),
        }

    def _work(self, shapes: tuple[StageShape, ...], pool: int, recompute: bool, micro_batch: int) -> Work:
        return Work(
            shapes=shapes,
            anchor=0,
            k=self.config.head.k,
            classes=CLASSES,
            batch_norm=self.config.network.batch_norm,
            pool=pool,
            dtype=self.dtype,
            encodings=(self.config.store.encoding,) * len(shapes),
            batch_size=self.config.train.batch_size,
            run_samples=min(micro_batch, self.arguments.micro_batch),
            image_side=max(CANVAS * self.arguments.side // 224, self.arguments.side),
            recompute=recompute,
        )

    def _fits(self, peak: Callable[[int], int]) -> int | None:
        """The largest micro-batch that the cap allows, 0 where none does; None without a cap."""
        cap, batch = self.arguments.cap, self.config.train.batch_size
        if not cap:
            return None
        return next((n for n in range(batch, 0, -1) if batch % n == 0 and n % 8 == 0 and peak(n) <= cap), 0)

    def _measured(self, made: Steps, samples: int, *, parts: int) -> dict[str, Any]:
        if self.device is None:
            return {}
        try:
            peak = measured_peak(made(STEPS), samples, self.device)
            rate = images_per_second(made, samples, self.device, self.arguments.steps, parts)
            return {"measured_bytes": peak, "images_per_second": rate}
        except torch.OutOfMemoryError:
            return {"measured_bytes": None}

    def _measured_stages(self, pool: int, recompute: bool, samples: int) -> dict[str, Any]:
        """The largest measured peak of training, and images/s of all stages one after the other."""
        if self.device is None:
            return {}
        found: dict[Any, dict[str, Any]] = {}
        shapes, seconds = tuple(self.shapes(pool)), 0.0
        for j in range(self.stages):
            stage = self._work(shapes[: j + 1], pool, recompute, samples).trained()
            if stage not in found:
                found[stage] = self._measured(partial(_steps_of, stage), samples, parts=1)
            seconds += 1 / found[stage].get("images_per_second", float("nan"))
        peaks = [one["measured_bytes"] for one in found.values()]
        return {"measured_bytes": None if None in peaks else max(peaks), "images_per_second": 1 / seconds}


def _steps_of(stage: Trained, steps: int) -> Program:
    return training(stage, steps=steps)


def table(rows: Sequence[dict[str, Any]], *, measured: bool, cap: int) -> list[list[str]]:
    """One row a contender, with its ratio to the checkpointed end-to-end training."""
    fair = {row["name"]: row["peak_bytes"] for row in rows}.get(WAYS["checkpointed"])
    lines = []
    for row in rows:
        line = [
            row["name"],
            str(row["samples"]),
            size(row["peak_bytes"]),
            f"{row['peak_bytes'] / fair:.2f}" if fair else "",
        ]
        if cap:
            line.append({None: "", 0: "none"}.get(row["fits"], str(row["fits"])))
        if measured:
            found = row.get("measured_bytes")
            line += [size(found) if found else "no room", f"{row.get('images_per_second', float('nan')):,.0f}"]
        whole = [size(row[name]) if name in row else "" for name in ("reading_bytes", "replaying_bytes")]
        lines.append([*line, str(row.get("stage", "")), *whole])
    return lines


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="imagenet-k3")
    parser.add_argument("--stages", type=int, nargs="+", default=[8, 16, 64], help="numbers of blocks")
    parser.add_argument("--widths", type=int, nargs="+", default=[128], help="of the first block")
    parser.add_argument("--micro-batch", type=int, default=32)
    parser.add_argument("--head-width", type=int, default=0, help="of a head at most; 0: as the preset's")
    parser.add_argument("--side", type=int, default=224, help="of the images' windows, in pixels")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--cap", type=parse_bytes, default=0, help='say which micro-batch fits, as in "4 GB"')
    parser.add_argument("--device", choices=["fake", "cpu", "cuda"], default="fake")
    parser.add_argument("--steps", type=int, default=10, help="that are timed")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="of training end to end")
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments = parser.parse_args(argv)
    config = read_config(tomllib.loads(preset_text(arguments.preset)), where=arguments.preset)
    header = ["", "samples", "training", "ratio"] + ["fits"] * bool(arguments.cap)
    header += ["measured", "images/s"] * (arguments.device != "fake") + [
        "of stage",
        "all, reading x_j",
        "all, replaying",
    ]
    found = []
    for width in arguments.widths:
        for stages in arguments.stages:
            rows = Bench(arguments, config, stages, width).rows()
            found.append({"stages": stages, "width": width, "rows": rows})
            where = "fake tensors" if arguments.device == "fake" else arguments.device
            print(f"{arguments.preset}, J = {stages}, M = {width}, {where}")
            machine.print_table(header, table(rows, measured=arguments.device != "fake", cap=arguments.cap))
    if arguments.json:
        settings = {name: str(value) for name, value in vars(arguments).items() if name != "json"}
        machine.write_json(arguments.json, {"machine": machine.record(), "settings": settings, "networks": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
