"""The predicted peak of a stage is what its code takes, at any micro-batch, and depends on no depth."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cascade import StageShape, make_block, make_head, stage_shapes
from pipeline import peak
from pipeline.ledger import Ledger, Program, _run, memory_at, memory_of
from pipeline.measure import measured_peak
from pipeline.peak import Work, predicted_peak, stage_work
from pipeline.prefix import room_bytes
from pipeline.programs import FROZEN, STORED, Replayed, calibrating, evaluating, replaying, training, writing
from tests.runs import tiny_run

CPU = torch.device("cpu")


def shapes(stages: int = 3, *, side: int = 16, width: int = 16) -> tuple[StageShape, ...]:
    down = [j * stages // 4 for j in (0, 2)]
    return tuple(
        stage_shapes(stages=stages, in_channels=3, in_side=side, width=width, head_width=2 * width, downsample_at=down)
    )


def work(**changes: object) -> Work:
    made = Work(
        shapes=shapes(),
        anchor=1,
        k=3,
        classes=10,
        batch_norm=True,
        dtype=torch.bfloat16,
        encodings=(),
        batch_size=64,
        run_samples=16,
        image_side=20,
    )
    made = replace(made, **changes)  # type: ignore[arg-type]
    return made if made.encodings else replace(made, encodings=("uint8",) * len(made.shapes))


PHASES: dict[str, Callable[[Work, Replayed], Program]] = {
    "training": lambda work, near: training(work.trained()),
    "recomputed training": lambda work, near: training(replace(work.trained(), recompute=True)),
    "replay": lambda work, near: replaying(near),
    "evaluation": lambda work, near: evaluating(work.trained(), near),
    "calibration": lambda work, near: calibrating(work.trained(), work.replayed(0), work.encodings[-1]),
    "write-back": lambda work, near: writing(work.trained(), near, work.encodings[-1]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("phase", PHASES)
def test_prediction_is_what_is_allocated(phase: str, dtype: torch.dtype) -> None:
    asked = work(shapes=shapes(side=32), dtype=dtype)
    make = PHASES[phase]
    predicted = memory_of(lambda: make(asked, asked.replayed(1))).peak(144)  # many: oneDNN's copies of weights, which
    measured = measured_peak(make(asked, asked.replayed(1)), 144, CPU)  # fake tensors do not make, matter less
    assert 0.97 * measured <= predicted <= 1.1 * measured


@pytest.mark.parametrize("phase", PHASES)
def test_two_runs_say_what_a_third_takes(phase: str) -> None:
    asked = work()
    make = PHASES[phase]
    memory = memory_of(lambda: make(asked, asked.replayed(1)))
    third = _run(make(asked, asked.replayed(1)), 136)
    alive = largest = 0
    for storage, sign in third.moments:
        alive += sign * -(-third.nbytes[storage] // 512) * 512
        largest = max(largest, alive)
    assert memory.peak(136) == largest


@pytest.mark.parametrize(
    "changes", [{}, {"bn_group": 8}, {"bn_group": 8, "pool": 2}, {"bn_group": 8, "k": 1}, {"similarity": True}]
)
@pytest.mark.parametrize("recompute", [False, True])
def test_parts_add_up_to_the_training_peak(recompute: bool, changes: dict[str, int]) -> None:
    asked = work(recompute=recompute, **changes)
    found = predicted_peak(asked, 32, beside=10**6)
    assert sum(found.parts.values()) == found.training
    allocated = memory_at(training(asked.trained()), 32).peak(32)
    assert found.training == allocated + found.parts[STORED] + 10**6


GROUPED = [{"k": 1}, {"k": 3}, {"k": 3, "recompute": True}]


@pytest.mark.parametrize("changes", [*GROUPED, *({**one, "similarity": True} for one in GROUPED)])
def test_what_compares_the_samples_of_a_group_takes_what_is_predicted(changes: dict[str, int]) -> None:
    asked = work(shapes=shapes(side=32), bn_group=32, device_type="cpu", dtype=torch.float32, **changes)
    measured = measured_peak(training(asked.trained()), 128, CPU)
    assert 0.97 * measured <= predicted_peak(asked, 128).training <= 1.1 * measured


def test_parts_are_what_they_are_called() -> None:
    found = predicted_peak(work(), 32)
    parameters = sum(tensor.nbytes for module in work().trained().modules() for tensor in module.parameters())
    assert parameters <= found.parts["parameters"] <= parameters + 512 * 16
    assert found.parts["momentum"] == found.parts["parameters"]
    assert found.parts["stored"] == 32 * 16 * 8 * 8  # one batch on its way, uint8
    kept = predicted_peak(work(recompute=True), 32)  # else x_j goes when its block has sampled it down
    assert kept.parts["input"] == 32 * 32 * 4 * 4 * 2


def test_on_a_cpu_stored_numbers_are_the_hosts() -> None:
    assert predicted_peak(work(device_type="cpu"), 32).parts["stored"] == 0


def test_another_micro_batch_or_an_equal_stage_takes_no_new_run(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = shapes(12)
    predicted_peak(work(shapes=deep[:10], anchor=7), 32)

    def refuse(make: Callable[[], Program]) -> None:
        raise AssertionError("a program was run again")

    monkeypatch.setattr(peak, "memory_of", refuse)
    predicted_peak(work(shapes=deep[:10], anchor=7), 16)
    predicted_peak(work(shapes=deep[:11], anchor=7), 16)


def test_peak_does_not_grow_with_depth() -> None:
    shallow, deep = (
        [predicted_peak(work(shapes=shapes(stages)[: j + 1], anchor=0), 32) for j in (0, stages - 1)]
        for stages in (8, 64)
    )
    assert max(p.streamed for p in deep) <= 1.02 * max(p.streamed for p in shallow)
    assert deep[-1].streamed <= 1.02 * shallow[-1].streamed
    assert deep[-1].prefix_resident > 8 * shallow[-1].prefix_resident


def test_weights_of_a_prefix_stream_or_stay() -> None:
    deep = shapes(8)
    found = predicted_peak(work(shapes=deep, anchor=0), 32)
    layers = [
        sum(tensor.nbytes for tensor in make_block(shape, batch_norm=True).state_dict().values())
        + 4 * shape.out_channels
        for shape in deep[:-1]
    ]
    assert found.prefix_resident == sum(layers)
    assert found.prefix_streamed == room_bytes(layers) < sum(layers)
    assert found.streamed >= found.training, "no room for them is there in training steps"


def test_taking_a_scale_has_room_for_the_weights_from_the_images_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, frozen = work(shapes=shapes(8), anchor=5), list[list[int]]()
    found = predicted_peak(asked, 32)

    def none_for(layers: list[int]) -> int:
        frozen.append(layers)
        return 0

    monkeypatch.setattr(peak, "room_bytes", none_for)
    without = predicted_peak(asked, 32)
    layers = max(frozen, key=len)
    assert len(layers) == 7
    assert found.calibration - without.calibration == room_bytes(layers) > 0
    assert found.evaluation == without.evaluation, "where their room is counted apart"


def test_recomputing_takes_less() -> None:
    shallow = work(shapes=shapes()[:2], dtype=torch.float32)
    assert predicted_peak(replace(shallow, recompute=True), 256).training < predicted_peak(shallow, 256).training


def test_a_pooled_head_takes_less() -> None:
    assert predicted_peak(work(pool=2), 64).training < 0.85 * predicted_peak(work(), 64).training


@pytest.mark.parametrize("anchor", [0, 1, 2])
def test_canvases_take_more_to_replay_and_write_and_nothing_more_to_train_on(anchor: int) -> None:
    windows = predicted_peak(work(anchor=anchor, dtype=torch.float32), 32)
    canvases = predicted_peak(work(anchor=anchor, dtype=torch.float32, canvas_side=24), 32)
    assert canvases.write_back > 1.3 * windows.write_back
    assert canvases.evaluation > windows.evaluation
    assert canvases.calibration > windows.calibration
    assert canvases.replay > windows.replay
    assert canvases.training - canvases.parts[STORED] == windows.training - windows.parts[STORED]


def test_windows_are_cut_before_decoding_only_to_train_where_they_are_cut_from_what_is_stored() -> None:
    asked = work(canvas_side=24)
    for start, to in ((2, "test"), (1, "train"), (0, "train")):
        found = asked.replayed(start, to=to)  # type: ignore[arg-type]
        assert (found.stored[1:], found.window, found.is_cut_stored) == ((24 >> start,) * 2, 4, False)
    assert asked.replayed(2, to="train").is_cut_stored
    assert not asked.replayed(2, to="write").window
    first = work(shapes=shapes()[:1], anchor=0, canvas_side=24)
    assert first.replayed(0, to="write").stored[1:] == (24, 24)
    assert (first.replayed(0).stored[1:], first.replayed(0).window) == ((16, 16), 0)


def test_resizing_takes_what_it_allocates_where_training_images_are_rendered_and_nowhere_else() -> None:
    plain, asked = (work(shapes=shapes(side=32), anchor=0, resized_from=side) for side in (0, 48))
    for to, side in (("train", 48), ("write", 48), ("scale", 48), ("test", 0)):
        assert asked.replayed(0, to=to).resized_from == side  # type: ignore[arg-type]
        assert asked.replayed(1, to=to).resized_from == 0, "x_1 is of windows"  # type: ignore[arg-type]
    found = asked.replayed(0, to="train")
    predicted = memory_of(lambda: replaying(found)).peak(144)
    assert 0.97 * (measured := measured_peak(replaying(found), 144, CPU)) <= predicted <= 1.1 * measured
    without, peak = predicted_peak(plain, 64), predicted_peak(asked, 64)
    assert peak.replay > without.replay
    assert peak.evaluation == without.evaluation


def test_past_cut_at_blocks_are_replayed_on_windows_and_nothing_is_written() -> None:
    deep = shapes(8)[:4]
    late, early = (predicted_peak(work(shapes=deep, anchor=1, canvas_side=24, cut_at=i), 32) for i in (0, 1))
    assert early.replay < late.replay
    assert early.evaluation < late.evaluation
    assert early.calibration < late.calibration
    assert late.write_back > early.write_back == 0
    found = work(shapes=deep, anchor=1, canvas_side=24, cut_at=1).replayed(0)
    assert (len(found.blocks), len(found.after_cut), found.window) == (1, 2, deep[1].in_side)


def test_each_x_is_of_its_own_encoding() -> None:
    own = ("uint4", "float16", "float32")
    mixed = work(encodings=own, anchor=2)
    assert [encoding for _, encoding in mixed.replayed(0).blocks] == ["uint4", "float16"]
    assert mixed.replayed(2).encoding == "float16"
    found, written = predicted_peak(mixed, 32), predicted_peak(replace(mixed, encodings=(*own[:2], "uint8")), 32)
    x_next = 16 * work().shapes[-1].out_channels * work().shapes[-1].out_side ** 2
    assert found.write_back - written.write_back >= x_next  # of four bytes, where the other is of one


def test_autocast_gives_the_types_of_cuda() -> None:
    """Torch makes no backward pass of fake CUDA tensors without a GPU, but a forward one."""
    shape = shapes()[1]

    def forward(device: str) -> list[int]:
        with torch.device("meta"):
            both = nn.Sequential(
                make_block(shape, batch_norm=True), make_head(shape, k=3, classes=10, batch_norm=True, pool=2)
            )
        ledger = Ledger()
        before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        try:
            torch.set_autocast_enabled(device, True)  # torch.autocast refuses where there is no GPU
            torch.set_autocast_dtype(device, torch.bfloat16)
            with FakeTensorMode(allow_non_fake_inputs=True), ledger:
                both.to_empty(device=device)
                both(torch.ones(8, shape.in_channels, shape.in_side, shape.in_side, device=device))
        finally:
            torch.set_autocast_enabled(device, before[0])
            torch.set_autocast_dtype(device, before[1])
            torch.clear_autocast_cache()
        return sorted(nbytes for nbytes in ledger.nbytes if nbytes >= 1024)  # no statistics

    assert forward("cuda") == forward("cpu")


def test_a_run_says_what_its_stages_do(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", 'augment.policy="canvas"', "augment.padding=2", "head.pool=2")
    asked = stage_work(run.outline, 1, anchor=1, device_type="cuda", dtype=torch.float32)
    assert asked.shapes == tuple(run.shapes)
    assert (asked.pool, asked.run_samples, asked.classes) == (2, 8, run.classes)
    assert asked.canvas_side == run.info.side + 4
    assert asked.encodings == ("float16",) * 2
    assert asked.stored_bytes(1, 8) == 8 * int(torch.tensor(run.output_shape(0)).prod()) * 2
    found = predicted_peak(asked, 8)
    assert max(found.training, found.replay, found.write_back) <= found.streamed
    assert FROZEN not in found.parts


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("blocks", "anchor"), [(3, 0), (0, 2)])
def test_the_prediction_holds_end_to_end_and_under_a_probe(blocks: int, anchor: int, recompute: bool) -> None:
    asked = work(shapes=shapes(side=32), blocks=blocks, anchor=anchor, writes=False, recompute=recompute)
    found = predicted_peak(asked, 32)
    assert sum(found.parts.values()) == found.training
    assert found.calibration == found.write_back == 0, "nothing is written"
    step = asked.trained()
    assert len(list(step.modules()[0])) == blocks
    predicted, measured = memory_of(lambda: training(step)).peak(144), measured_peak(training(step), 144, CPU)
    assert 0.97 * measured <= predicted <= 1.1 * measured


def test_end_to_end_takes_more_memory_the_deeper_it_is_and_a_stage_does_not() -> None:
    deep = shapes(stages=8)
    whole = [predicted_peak(work(shapes=deep[:n], blocks=n, anchor=0), 32).training for n in (2, 4, 8)]
    assert whole == sorted(whole)
    assert whole[-1] > 1.5 * predicted_peak(work(shapes=deep, anchor=7), 32).training


def test_a_run_of_mixed_encodings_says_so(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "stages.0.store.encoding=uint4", "stages.1.store.encoding=uint8")
    asked = stage_work(run.outline, 1, anchor=0, device_type="cuda", dtype=torch.float32)
    assert asked.encodings == ("uint4", "uint8")
