"""Planning a run folder: measured, kept, and held against what comes of it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from cache import speed
from cascade import StageShape
from pipeline import bench, budget, measured, ondevice, rates, trial
from pipeline.acceptance import accept_stale
from pipeline.bench import Bench, StageSeconds
from pipeline.config_file import load_config
from pipeline.device import choose_device
from pipeline.errors import DeviceMemoryError
from pipeline.footprint import known_store
from pipeline.ingest import ingest
from pipeline.lock import lock_folder
from pipeline.measured import measured_stages
from pipeline.outline import Outline, read_outline
from pipeline.plan import Plan, keep_plan, make_plan, read_plan
from pipeline.planning import outcomes, plan_run
from pipeline.presets import write_preset
from pipeline.progress import Reporter, size
from pipeline.runfolder import RunFolder
from pipeline.sealed import write_sealed
from tests.conftest import Outcome
from tests.runs import SMALL, copied, epoch_record, reopened
from tests.test_plan import PLENTY, made_up_rates
from tests.trained import CPU, whole

__all__ = ["whole"]
MADE_UP = made_up_rates(3)


RESIZED = ("augment.scale=[0.5, 1.0]", "augment.padding=0")


class Said(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each, whatever comes out."""
    monkeypatch.setattr(rates, "ROUNDS", 1)
    monkeypatch.setattr(bench, "SECONDS", 0.0)
    monkeypatch.setattr(bench, "REPEATS", 1)
    monkeypatch.setattr(bench, "BATCH_SECONDS", 0.0)
    monkeypatch.setattr(bench, "CHUNK_BYTES", 2**16)
    monkeypatch.setattr(trial, "ROUNDS", 1)
    monkeypatch.setattr(speed, "FIRST_BYTES", 2**16)
    monkeypatch.setattr(speed, "SECONDS", 0.0)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A run folder with nothing but a config."""
    write_preset("digits", tmp_path / "run", SMALL)
    return tmp_path / "run"


def test_an_empty_folder_is_planned_as_an_ingested_one(empty: Path) -> None:
    before = plan_run(empty, load_config(empty), CPU, Said())
    ingest(load_config(empty), empty, Reporter())
    after = plan_run(empty, load_config(empty), CPU, Said())
    assert [stage.written_bytes for stage in before.stages if stage.writes] == [
        stage.written_bytes for stage in after.stages if stage.writes
    ]
    assert before.stages[0].images_per_second == pytest.approx(after.stages[0].images_per_second, rel=0.01)


def test_the_machine_is_measured_once_for_the_same_shapes(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, anew, wider = Said(), Said(), Said(), Said()
    plan_run(empty, load_config(empty), CPU, first)
    kept = (empty / rates.RATES).read_bytes()
    plan_run(empty, load_config(empty), CPU, again)
    assert (empty / rates.RATES).read_bytes() == kept
    plan_run(empty, load_config(empty), CPU, anew, anew=True)
    plan_run(empty, load_config(empty, ["network.width=4"]), CPU, wider)
    assert [bool(said.lines) for said in (first, again, anew, wider)] == [True, False, True, True]
    back, kept = Said(), (empty / rates.RATES).read_bytes()
    plan_run(empty, load_config(empty), CPU, back)
    assert (back.lines, (empty / rates.RATES).read_bytes()) == ([], kept), "nor where another was tried in between"
    monkeypatch.setattr(rates, "KEPT", 1)
    plan_run(empty, load_config(empty, ["network.width=16"]), CPU, Said())
    assert len(msgspec.json.decode((empty / rates.RATES).read_bytes(), type=rates.KeptRates).rates) == 1


def test_rates_of_another_format_are_measured_again(empty: Path) -> None:
    class Earlier(msgspec.Struct):
        machine: dict[str, str]

    write_sealed(empty / rates.RATES, Earlier({"device": "cpu"}))
    said = Said()
    plan_run(empty, load_config(empty), CPU, said)
    assert "measuring" in said.lines[0]
    assert msgspec.json.decode((empty / rates.RATES).read_bytes(), type=rates.KeptRates).format == rates.FORMAT


def test_images_that_are_resized_are_measured_as_such(empty: Path) -> None:
    outlines = [
        read_outline(empty, load_config(empty, settings)) for settings in ([], RESIZED, [*RESIZED, "augment.flip=true"])
    ]
    plain, resized, flipped = map(rates.network_digest, outlines)
    assert plain != resized == flipped
    seconds = [Bench(outline, CPU, torch.float32).image() for outline in outlines[:2]]
    assert seconds[1] > seconds[0]


def test_stages_of_one_shape_are_measured_once(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(empty, ["network.stages=6", "network.downsample_at=[]"])
    asked: list[int] = []
    stage = Bench.stage

    def counted(own: Bench, shape: StageShape, folder: Path) -> StageSeconds:
        asked.append(shape.j)
        return stage(own, shape, folder)

    monkeypatch.setattr(Bench, "stage", counted)
    found = rates.measure(empty, read_outline(empty, config), CPU, Said())
    assert asked == [0, 1]
    assert len(set(found.step_seconds[1:])) == 1
    assert [file.name for file in empty.iterdir()] == ["cascade.toml"]


def test_measuring_the_disk_keeps_to_its_budget_and_says_where_that_is_too_little(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    disk_speed = speed.disk_speed

    def watched(*arguments: Any, at_most: int, **options: Any) -> speed.DiskSpeed:
        asked.append(at_most)
        return disk_speed(*arguments, at_most=at_most, **options)

    monkeypatch.setattr(rates, "disk_speed", watched)
    said, config = Said(), load_config(empty, ["budget.disk=2 MB"])
    plan_run(empty, config, CPU, said)
    assert asked == [pytest.approx(500_000, rel=0.05)]
    assert any("the disk's speed is measured on " in line and "2.0 MB are left" in line for line in said.lines)


def test_a_plan_is_printed_and_kept(empty: Path, cascade: Callable[..., Outcome]) -> None:
    code, out, err = cascade("plan", "--run", empty, "--device", "cpu")
    assert (code, out.splitlines()[0].split()[:3]) == (0, ["stage", "input", "writes"])
    assert "in all " in out
    assert "all recomputed" in out
    assert "measured in" in err
    code, out, err = cascade("plan", "--run", empty, "--device", "cpu", "--json")
    assert (code, err) == (0, "")
    assert msgspec.json.decode(out, type=Plan).stages[0].anchor == 0
    assert (empty / "plan.json").exists()


@pytest.mark.parametrize("keep", ["auto", "all"])
def test_a_trained_stage_that_would_not_fit_now_hinders_no_other(
    whole: RunFolder,
    tmp_path: Path,
    cascade: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    keep: str,
) -> None:
    """As where it was trained on another machine, or with more of this one."""
    run = copied(whole, tmp_path / "run")
    choose, ring = ondevice.choose_on_device, budget.ring_bytes

    def too_large_before_2(outline: Outline, j: int, **options: Any) -> ondevice.OnDevice:
        if j < 2:
            raise DeviceMemoryError(f"stage {j} needs more")
        return choose(outline, j, **options)

    def too_large_below_2(outline: Outline, index: int, *sizes: int, hold: int) -> int:
        return ring(outline, index, *sizes, hold=hold) if index in (0, 2) else 10**12

    monkeypatch.setattr("pipeline.planning.rates_of", lambda *_, **__: MADE_UP)
    for module in ("plan", "beforehand"):
        monkeypatch.setattr(f"pipeline.{module}.choose_on_device", too_large_before_2)
    monkeypatch.setattr("pipeline.beforehand.ring_bytes", too_large_below_2)
    for command in ("plan", "run", "run"):
        code, _, err = cascade(command, "--run", run.path, "--device", "cpu", "--set", f"cache.keep={keep}")
        assert code == 0, err


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("stated", [False, True])
def test_so_many_images_that_the_disk_cannot_hold_them_are_planned_all_the_same(
    empty: Path, cascade: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, codec: str, stated: bool
) -> None:
    monkeypatch.setattr("pipeline.planning.rates_of", lambda *_, **__: MADE_UP)
    monkeypatch.setattr("pipeline.planning.free_bytes", lambda _: 10**6)
    settings = ("--set", f"store.codec={codec}", "--set", "cache.keep=auto", *(("--disk", 1000) * stated))
    options = ("--run", empty, "--device", "cpu", *settings)
    code, out, err = cascade("plan", *options, "--images", 10**6)
    assert code == 0, err
    (line,) = (line for line in out.splitlines() if " not fit: " in line)
    assert line.startswith("does not fit: x_0 and " if codec == "none" else "may not fit: x_0 and ")
    plan = msgspec.json.decode(cascade("plan", *options, "--images", 10**6, "--json")[1], type=Plan)
    assert plan.anchors == [0]
    needed = plan.needs_bytes or 0
    assert needed >= plan.peak_bytes + plan.beside_bytes > 8e7
    assert f"{size(needed)} of disk, and {size(plan.disk_bytes)} are there" in line
    with_room = msgspec.json.decode(cascade("plan", *options, "--images", 10**6, "--disk", needed, "--json")[1])
    assert with_room["needs_bytes"] is None, "which is enough"
    if stated:
        assert cascade("plan", *options)[0] == 6, "of the images that are there"


def test_a_folder_in_use_is_not_planned(empty: Path, cascade: Callable[..., Outcome]) -> None:
    with lock_folder(empty, "training"):
        code, _, _ = cascade("plan", "--run", empty)
    assert code == 5


def test_what_was_predicted_stands_beside_what_came_of_it(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    assert outcomes(run) == []
    outline = read_outline(run.path, run.config)
    plan = keep_plan(run.path, make_plan(outline, MADE_UP, PLENTY, device=CPU, stores=[1, 2]), None)
    found = outcomes(run)
    assert [one.measured.j for one in found] == [0, 1]
    record, predicted, trained = run.stages[0].record, found[0].predicted, found[0].measured
    assert record is not None
    assert predicted == plan.stages[0]
    assert trained.seconds == record.seconds
    assert trained.images_per_second
    assert 0 < trained.stored_bytes < predicted.written_bytes  # coded, and a bound
    assert trained.device_peak_bytes is None, "a CPU has none of its own"


def test_images_a_second_of_a_trained_stage_are_all_its_images_over_all_its_time(
    whole: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = [
        msgspec.structs.replace(epoch_record(epoch), images_per_second=rate)
        for epoch, rate in enumerate((100.0, 300.0))
    ]
    monkeypatch.setattr(measured, "read_metrics", lambda _: epochs)
    assert [one.images_per_second for one in measured_stages(whole)] == [pytest.approx(150)] * 2


def test_stores_of_a_copied_run_are_found(whole: RunFolder, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    plan = plan_run(run.path, run.config, choose_device("cpu"), Said())
    assert [stage.seconds > 0 for stage in plan.stages] == [False, False, True]


def with_other_lr(run: RunFolder) -> RunFolder:
    return reopened(run.path, "train.lr=0.05", "cache.keep=auto")


def test_stages_that_stand_in_for_others_are_not_trained_again_and_their_stores_are_read(
    whole: RunFolder, tmp_path: Path
) -> None:
    now = with_other_lr(copied(whole, tmp_path / "run"))
    anew = plan_run(now.path, now.config, CPU, Said())
    assert [stage.seconds > 0 for stage in anew.stages] == [True] * 3
    accepted = plan_run(now.path, now.config, CPU, Said(), run=accept_stale(now, 2))
    assert [stage.seconds > 0 for stage in accepted.stages] == [False, False, True]
    assert accepted.stages[2].anchor == 2
    assert accepted.peak_basis == "stored"


def test_what_a_run_would_not_write_is_not_planned(whole: RunFolder, tmp_path: Path) -> None:
    """x_1 since stage 1 is trained, x_2 of a stand-in since that is left as it is."""
    run = copied(whole, tmp_path / "run", "cache.keep=auto")
    for j in (0, 1):
        shutil.rmtree(run.stages[j].path / f"x_{j + 1}")
    outline = read_outline(run.path, run.config)
    stores = [one for one in range(1, 3) if known_store(outline, one, {}, run=run).is_to_be_had]
    assert stores == [2]
    now = accept_stale(with_other_lr(run), 2)
    plan = plan_run(now.path, now.config, CPU, Said(), run=now)
    assert (plan.stores, plan.samples) == ([], [])


def test_a_plan_is_made_for_what_a_run_with_the_same_options_would_do(
    whole: RunFolder, tmp_path: Path, cascade: Callable[..., Outcome]
) -> None:
    run = copied(whole, tmp_path / "run")
    options = ("--run", run.path, "--device", "cpu", "--set", "train.lr=0.05", "--from", 2, "--accept-stale")
    code, out, _ = cascade("plan", *options, "--json")
    assert code == 0
    planned, followed = msgspec.json.decode(out, type=Plan), cascade("run", *options, "--set", "cache.keep=auto")
    assert [stage.seconds > 0 for stage in planned.stages] == [False, False, True]
    assert followed[0] == 0
    assert read_plan(run.path).stages[2].anchor == planned.stages[2].anchor  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["steps.json", "rates.json"])
def test_what_was_measured_and_is_damaged_is_replaced_by_measuring_again(
    empty: Path, cascade: Callable[..., Outcome], name: str
) -> None:
    options = ("plan", "--run", empty, "--device", "cpu")
    (empty / name).write_bytes(b"{}")
    code, _, err = cascade(*options)
    assert (code, f"{name} is damaged" in err) == (4, True)
    assert cascade(*options, "--measure")[0] == 0
    assert cascade(*options)[0] == 0
