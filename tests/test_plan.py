"""Plans of a small network, with rates made up."""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.anchors import route_of
from pipeline.config import Config
from pipeline.device import choose_device
from pipeline.errors import DiskError
from pipeline.footprint import known_store, unwritten
from pipeline.otherways import other_ways
from pipeline.outline import Outline, read_outline
from pipeline.plan import Plan, keep_plan, make_plan, read_plan
from pipeline.plantable import plan_json, plan_table
from pipeline.progress import duration, size
from pipeline.rates import CodecRate, Rates
from pipeline.sampling import updated_samples
from pipeline.workload import Budgets, workload
from tests.configs import loaded
from tests.runs import copied
from tests.trained import whole

__all__ = ["whole"]
CPU = choose_device("cpu")
PLENTY = Budgets(disk=10**12, host=10**9)
HOST_OF_X_1 = 3_200_000
"""Enough to read x_1, of which nothing is kept then."""
MADE_UP = {"device": "made up"}
SETTINGS = ("network.downsample_at=[1]", "data.validation=0", "store.codec=none", "augment.policy=none")


def made_up_rates(stages: int, **changes: Any) -> Rates:
    """A block takes a millisecond, a step four; the disk moves a gigabyte a second, and nothing else takes any time."""
    own: dict[str, Any] = {
        "machine": MADE_UP,
        "network": "",
        "step_seconds": [4e-3] * stages,
        "part_seconds": [0.0] * stages,
        "test_seconds": [0.0] * stages,
        "forward_seconds": [1e-3] * stages,
        "checkpoint_seconds": [0.0] * stages,
        "begin_seconds": [0.0] * stages,
        "scale_seconds": [0.0] * stages,
        "stage_seconds": 0.0,
        "block_seconds": 0.0,
        "epoch_seconds": 0.0,
        "store_seconds": 0.0,
        "image_seconds": 0.0,
        "decode_seconds": dict.fromkeys(("float32", "float16", "uint8", "uint4"), 0.0),
        "cut_seconds": 0.0,
        "read_bytes_per_second": 1e9,
        "write_bytes_per_second": 1e9,
        "fetch_seconds_per_byte": 0.0,
        "write_seconds_per_byte": 0.0,
        "codecs": [
            CodecRate(encoding=encoding, codec=codec, share=0.5, pack_seconds=0.0, unpack_seconds=0.0)
            for encoding in ("float32", "float16", "uint8", "uint4")
            for codec in ("none", "lz4", "zstd")
        ],
        "copy_bytes_per_second": None,
        "stolen": 0.0,
        "seconds": 1.0,
    }
    return Rates(**{**own, **changes})


@pytest.fixture
def outline(tmp_path: Path) -> Outline:
    """Three stages on 1,440 digits: x_1 of 8x8x8, x_2 of 16x4x4."""
    return read_outline(tmp_path, loaded(tmp_path, *SETTINGS))


def store_bytes(outline: Outline) -> list[int]:
    """What x_0, x_1 and x_2 will take, all files of each together."""
    return [unwritten(outline, i, MADE_UP, "none").nbytes for i in range(3)]


def planned(outline: Outline, disk: int = PLENTY.disk, **changes: Any) -> Plan:
    return make_plan(outline, made_up_rates(3, **changes), Budgets(disk, PLENTY.host), device=CPU)


def test_with_room_and_a_fast_disk_every_store_is_kept(outline: Outline) -> None:
    plan = planned(outline)
    assert plan.anchors == [0, 1, 2]
    assert plan.peak_bytes == sum(store_bytes(outline))
    assert [stage.deletes for stage in plan.stages] == [None] * 3
    assert [stage.limited_by for stage in plan.stages] == ["device"] * 3


def test_with_a_byte_less_two_neighbours_are_one_too_many(outline: Outline) -> None:
    everything = sum(store_bytes(outline))
    plan = planned(outline, everything - 1)
    assert plan.anchors == [0, 1]  # either saves as much, and x_1 is written through one block less


def test_on_a_slow_disk_a_store_that_costs_more_than_its_prefix_is_not_kept(outline: Outline) -> None:
    rates = made_up_rates(3, read_bytes_per_second=outline.sample_bytes(1) / 20e-3)
    plan = make_plan(outline, rates, Budgets(PLENTY.disk, HOST_OF_X_1), device=CPU)
    assert 1 not in plan.stores
    assert plan.stages[1].replaying_seconds > 0


def test_what_is_predicted_of_a_stage_adds_up(outline: Outline) -> None:
    plan, rates = planned(outline), made_up_rates(3)
    stage = plan.stages[1]
    images = outline.samples["train"]
    assert stage.training_seconds == pytest.approx(images * 50 * 4e-3, rel=0.01)  # and the first window's reading
    assert stage.images_per_second == pytest.approx(250, rel=0.01)
    assert stage.writing_seconds == pytest.approx((12 + 3) * 128 * 1e-3, rel=0.01)  # whole runs
    assert stage.ending_seconds == pytest.approx(1024 * 2e-3, rel=0.01)  # its scale, through two blocks
    load = workload(outline, rates, PLENTY, device=CPU)
    assert plan.seconds == pytest.approx(route_of(load.choices, (0, 1, 2), PLENTY.disk).seconds)


def test_a_store_is_read_back_before_another_is_deleted_for_it(tmp_path: Path) -> None:
    outline = read_outline(tmp_path, loaded(tmp_path, *SETTINGS, "network.stages=4"))
    needed = [unwritten(outline, i, MADE_UP, "none").nbytes for i in range(4)]
    roomy, tight = (
        make_plan(outline, made_up_rates(4), Budgets(disk, PLENTY.host), device=CPU)
        for disk in (sum(needed), sum(needed) - 1)
    )
    assert roomy.anchors == tight.anchors == [0, 1, 2, 3]
    assert [stage.deletes for stage in tight.stages][:2] == [None, 1]
    more = [two.writing_seconds - one.writing_seconds for one, two in zip(roomy.stages, tight.stages, strict=True)]
    assert more[:2] == pytest.approx([0, needed[2] / 1e9])


def test_the_images_alone_may_be_too_much(outline: Outline) -> None:
    with pytest.raises(DiskError, match=r"x_0 alone takes .* and the disk budget is 1\.0 KB\nnext: a larger budget"):
        planned(outline, 1000)


def test_what_the_host_memory_cannot_read_is_no_anchor(outline: Outline) -> None:
    plan = make_plan(outline, made_up_rates(3), Budgets(PLENTY.disk, HOST_OF_X_1 // 2), device=CPU)
    assert plan.stores == [2]


def test_alternatives_have_their_price_and_say_what_does_not_fit(outline: Outline) -> None:
    plan = planned(outline, sum(store_bytes(outline)) - 1)
    found = {one.name.split(",")[0]: one for one in plan.alternatives}
    assert list(found)[:3] == ["all cached", "all recomputed", "half the disk"]
    assert (found["all cached"].anchors, found["all cached"].fits) == ([0, 1, 2], False)
    assert (found["all recomputed"].anchors, found["all recomputed"].fits) == ([0], True)
    assert all(one.seconds >= plan.seconds for one in plan.alternatives if one.fits and not one.changes_results)
    assert found["store.encoding = uint4"].changes_results
    assert found["store.encoding = uint4"].anchors == [0, 1, 2]  # a quarter of the bytes
    assert found["augment.policy = recompute"].anchors == [0]
    assert "does not fit on the disk" in plan_table(plan)


@pytest.mark.parametrize(("settings", "others"), [((), 2), (("augment.scale=[0.5, 1.0]",), 1)])
def test_canvases_are_no_alternative_to_windows_that_are_resized(
    tmp_path: Path, settings: tuple[str, ...], others: int
) -> None:
    config = loaded(tmp_path, "augment.policy=recompute", *settings, *SETTINGS[:-1])
    named = [way.name for way in other_ways(config) if way.name.startswith("augment.policy = ")]
    assert ("augment.policy = canvas" in named) == (others == 2)
    assert {"augment.policy = views-4", "augment.policy = none"} <= set(named)


def test_the_plan_of_given_stores_is_theirs(outline: Outline) -> None:
    plan = make_plan(outline, made_up_rates(3), PLENTY, device=CPU, stores=[2])
    assert plan.anchors == [0, 2]
    assert [stage.anchor for stage in plan.stages] == [0, 0, 2]
    least = planned(outline)
    (auto,) = (one for one in plan.alternatives if one.name == "cache.keep = auto")
    assert auto.anchors == least.anchors
    assert auto.seconds == pytest.approx(least.seconds)
    assert all(one.name != auto.name for one in least.alternatives)


def test_table_and_json_show_it(outline: Outline) -> None:
    plan = planned(outline)
    assert "x_1 stored" in plan_table(plan)
    assert "in all " in plan_table(plan)
    held_out = replace(outline, samples={"train": 1500, "validation": 300, "test": 90})
    table = plan_table(planned(held_out.of_images(3600)))
    assert "for 3,000 train, 600 validation, 180 test images\n" in table
    assert "micro-batch" not in plan_table(plan)
    assert msgspec.json.decode(plan_json(plan), type=Plan) == plan


def test_parts_of_a_batch_and_recomputation_take_their_time(tmp_path: Path) -> None:
    rates = made_up_rates(3, part_seconds=[32e-3] * 3, test_seconds=[1e-3] * 3)

    def seconds_of_a_step(*settings: str) -> float:
        outline = read_outline(tmp_path, loaded(tmp_path, *SETTINGS, *settings))
        plan = make_plan(outline, rates, PLENTY, device=CPU, stores=[1, 2])
        assert ("128, recomputed" in plan_table(plan)) == ("machine.recompute=always" in settings)
        return 1 / (plan.stages[1].images_per_second or 0)

    parts, large = ("network.bn_group=16", "machine.micro_batch=16"), "budget.device=1 TB"
    assert seconds_of_a_step() == pytest.approx(4e-3, rel=0.01)
    assert seconds_of_a_step(*parts) == pytest.approx(4e-3 + 32e-3 * (1 / 16 - 1 / 128), rel=0.01)
    assert seconds_of_a_step("machine.recompute=always", large) == pytest.approx(5e-3, rel=0.01)


def test_a_thousand_blocks_are_planned_in_seconds(tmp_path: Path) -> None:
    outline = read_outline(tmp_path, loaded(tmp_path, *SETTINGS, "network.stages=100", "augment.padding=1"))
    shapes = [replace(outline.shapes[min(j, 3)], j=j) for j in range(1000)]
    began = time.process_time()
    plan = make_plan(replace(outline, shapes=shapes), made_up_rates(1000), PLENTY, device=CPU)
    assert time.process_time() - began < 8  # a second of it on a machine that does nothing else
    assert len(plan.stages) == 1000


def of_run(config: Config, run: Any) -> Outline:
    return read_outline(run.path, config)


def test_trained_stages_and_stores_cost_nothing_more(whole: Any) -> None:
    outline = of_run(whole.config, whole)
    plan = make_plan(outline, made_up_rates(3), PLENTY, device=CPU, run=whole)
    assert [stage.seconds > 0 for stage in plan.stages] == [False, False, True]
    assert plan.stages[2].anchor == 2
    assert plan.seconds == sum(stage.seconds for stage in plan.stages)
    rows, seconds = plan_table(plan).splitlines(), sum(one.seconds for one in plan.measured)
    for j in (0, 1):
        measured = plan.measured[j]
        rate = f"{measured.images_per_second:,.0f}"
        assert rows[j + 1].split()[-5:] == [rate, "training", *duration(measured.seconds).split(), "done"]
    begins = f"as measured {duration(seconds)} of training done; left to do {duration(plan.seconds)}: "
    assert begins in plan_table(plan)
    assert plan.peak_bytes == sum(whole.stored_bytes(i, split) for i in plan.anchors for split in whole.splits)


def test_a_later_plan_keeps_what_was_predicted_of_stages_that_are_trained_now(whole: Any, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    outline = of_run(run.config, run)
    before = make_plan(outline, made_up_rates(3), PLENTY, device=CPU)
    keep_plan(run.path, before, None)
    now = make_plan(outline, made_up_rates(3, step_seconds=[1.0] * 3), PLENTY, device=CPU, run=run)
    kept = keep_plan(run.path, now, run)
    assert kept.predicted == before.stages[:2]
    assert kept.stages == now.stages
    assert read_plan(run.path) == kept


def test_a_plan_made_while_a_stage_trains_keeps_what_was_predicted_of_all_of_it(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(whole, tmp_path / "run")
    outline = of_run(run.config, run)
    before = keep_plan(run.path, make_plan(outline, made_up_rates(3), PLENTY, device=CPU, run=run), run)
    monkeypatch.setattr("pipeline.plan.read_metrics", lambda stage: [stage] * (stage.j == 2))
    rates = made_up_rates(3, step_seconds=[1.0] * 3)
    for _ in range(2):
        kept = keep_plan(run.path, make_plan(outline, rates, PLENTY, device=CPU, run=run), run)
    assert kept.stages[2].is_rest
    assert kept.prediction(run.config, 2) == before.stages[2]


def test_another_codec_is_priced_and_changes_no_result(outline: Outline) -> None:
    found = {one.name: one for one in planned(outline).alternatives}
    assert not found["store.codec = lz4"].changes_results
    assert found["store.codec = lz4"].peak_basis == "bound"
    assert found["store.encoding = uint4"].peak_basis == "raw"
    assert "at most" in plan_table(planned(outline))


def test_stages_with_a_codec_or_an_encoding_of_their_own_are_priced_apart(tmp_path: Path) -> None:
    own = ("stages.1.store.codec=zstd", "stages.0.store.encoding=uint8", "stages.1.store.encoding=uint8")
    outline = read_outline(tmp_path, loaded(tmp_path, *SETTINGS, *own))
    unpacking = [
        CodecRate(encoding=rate.encoding, codec=rate.codec, share=0.5, pack_seconds=cost, unpack_seconds=0.0)
        for rate in made_up_rates(3).codecs
        for cost in [1e-3 if rate.codec == "zstd" else 0.0]
    ]
    found = {one.name: one for one in planned(outline, codecs=unpacking).alternatives}
    assert [name for name in found if "store" in name] == [
        "stages.0,1.store.encoding = uint4",
        "store.codec = lz4",
        "store.codec = zstd",
        "stages.1.store.codec = none",
        "stages.1.store.codec = lz4",
    ]
    assert found["stages.1.store.codec = lz4"].seconds < found["store.codec = lz4"].seconds, "zstd is slow here"
    assert found["stages.1.store.codec = none"].peak_basis == "raw"


def test_what_another_encoding_of_an_x_j_trains_anew_is_what_follows(whole: Any, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run", "stages.1.store.encoding=uint8")
    plan = make_plan(of_run(run.config, run), made_up_rates(3), PLENTY, device=CPU, run=run)
    found = {one.name: one for one in plan.alternatives}
    assert found["stages.1.store.encoding = uint4"].seconds < 1.5 * plan.seconds, "stages 0 and 1 are trained"
    assert found["store.encoding = uint4"].seconds > 1.5 * plan.seconds


def test_the_images_are_the_same_whatever_else_is_changed_of_the_method(whole: Any, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    rates = made_up_rates(3, write_bytes_per_second=1.0)  # nothing more is worth storing
    plan = make_plan(of_run(run.config, run), rates, PLENTY, device=CPU, run=run)
    x_0 = sum(run.stored_bytes(0, split) for split in run.splits)
    found = [one for one in plan.alternatives if one.changes_results and one.anchors == [0]]
    assert {one.name for one in found} >= {"store.encoding = uint4", "augment.policy = recompute"}
    assert {one.peak_bytes for one in found} == {x_0}


def test_before_the_ingest_the_images_have_the_codec_of_the_run_and_of_no_stage(tmp_path: Path) -> None:
    outline = read_outline(tmp_path, loaded(tmp_path, *SETTINGS, "stages.0.store.codec=zstd"))
    assert known_store(outline, 0, MADE_UP).codec == "none"


def test_the_table_says_what_bytes_are_known_from(whole: Any, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "run")
    shutil.rmtree(run.stages[1].path / "x_2")
    outline = of_run(run.config, run)
    samples = updated_samples(run, CPU, [])
    plan = make_plan(outline, made_up_rates(3), PLENTY, device=CPU, run=run, samples=samples, stores=[1, 2])
    assert [stage.written_basis for stage in plan.stages] == ["stored", "sample", None]
    assert plan.peak_basis == "sample"
    assert f"about {size(plan.stages[1].written_bytes)}" in plan_table(plan)
    assert "about: within 2%, from a sample that was encoded" in plan_table(plan)
    bound = make_plan(outline, made_up_rates(3), PLENTY, device=CPU, run=run, stores=[1, 2])
    assert f"at most {size(bound.peak_bytes)}" in plan_table(bound)
    assert bound.peak_bytes > plan.peak_bytes
