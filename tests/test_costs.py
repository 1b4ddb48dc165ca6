"""Predicted seconds, by hand."""

import time
from typing import Any

import numpy as np
import pytest

from pipeline import costs
from pipeline.costs import Machine, Parts, Work

FREE = dict.fromkeys(("stage_seconds", "block_seconds", "epoch_seconds", "store_seconds"), 0.0)


def machine(**changes: Any) -> Machine:
    own = {"read_bytes_per_second": 100.0, "write_bytes_per_second": 50.0, "threads": 2}
    return Machine(**{**own, "copy_bytes_per_second": np.inf, "stolen": 0.0, **FREE, **changes})


def work(stages: int = 3, **changes: Any) -> Work:
    """Ten samples, two epochs, two views; a step takes a second, a block 0.1, and nothing is read."""
    zeros, ones = np.zeros(stages), np.ones(stages)
    own = {
        "train_samples": 10,
        "validation_samples": 0,
        "test_samples": 0,
        "views": 2,
        "run": 1,
        "window": 0,
        "window_in_order": 0,
        "epochs": np.full(stages, 2),
        "looks": np.zeros(stages, np.int64),
        "is_trained": np.zeros(stages, bool),
        "step_seconds": ones,
        "test_seconds": 0.5 * ones,
        "checkpoint_seconds": zeros,
        "begin_seconds": zeros,
        "scale_seconds": zeros,
        "field_seconds": 0.1 * ones,
        "window_seconds": 0.1 * ones,
        "cut_at": np.arange(stages),
        "render_seconds": zeros,
        "disk_bytes": zeros,
        "copied_bytes": zeros,
        "fetch_seconds": zeros,
        "pack_seconds": zeros,
        "kept_share": zeros,
        "calibration_samples": np.zeros(stages, np.int64),
        "scale_samples": np.zeros(stages, np.int64),
        "exists": np.zeros(stages, bool),
    }
    return Work(**{**own, **changes})


def at(parts: Parts, anchor: int, j: int) -> float:
    return float(parts.total[anchor, j])


def test_a_longer_prefix_is_replayed_at_every_step() -> None:
    parts = costs.training(work(), machine())
    assert [at(parts, i, 2) for i in (2, 1, 0)] == pytest.approx([20, 22, 24])
    assert parts.replay[0, 2] == pytest.approx(4)
    assert parts.limit(0, 2) == "device"


def test_what_reading_takes_longer_than_training_is_waited_for() -> None:
    parts = costs.training(work(disk_bytes=np.array([1.0, 500.0, 200.0])), machine())
    assert (at(parts, 0, 1), at(parts, 1, 1), at(parts, 2, 2)) == pytest.approx((22, 100, 40))
    assert (parts.limit(1, 1), parts.limit(0, 1)) == ("disk", "device")


def test_the_first_window_is_read_before_anything_is_computed() -> None:
    parts = costs.training(work(disk_bytes=np.full(3, 50.0), window=2), machine())
    assert at(parts, 0, 0) == pytest.approx(20 + 0.2 * 10)


def test_what_stays_in_memory_is_read_once_of_every_view() -> None:
    kept = work(disk_bytes=np.full(3, 500.0), kept_share=np.ones(3), epochs=np.full(3, 6))
    parts = costs.training(kept, machine())
    assert parts.read[0, 0] == pytest.approx(50)  # one view of images
    assert parts.read[1, 1] == pytest.approx(100)
    assert at(parts, 1, 1) == pytest.approx(100 + 4 * 10)


def test_half_of_it_in_memory_halves_the_reading_after_the_first_time() -> None:
    parts = costs.training(work(disk_bytes=np.full(3, 500.0), kept_share=np.full(3, 0.5)), machine())
    assert parts.read[0, 0] == pytest.approx(50 + 25)


def test_threads_take_their_time_from_a_device_that_shares_its_cores() -> None:
    coded = work(fetch_seconds=np.full(3, 0.4))
    assert at(costs.training(coded, machine()), 0, 0) == pytest.approx(20)
    assert at(costs.training(coded, machine(stolen=0.5)), 0, 0) == pytest.approx(20 + 0.5 * 8)


def test_threads_that_are_slower_than_the_device_are_waited_for() -> None:
    parts = costs.training(work(fetch_seconds=np.full(3, 4.0)), machine())
    assert at(parts, 0, 0) == pytest.approx(40)
    assert parts.limit(0, 0) == "threads"


def test_a_bus_that_is_slower_than_the_device_is_waited_for() -> None:
    parts = costs.training(work(copied_bytes=np.full(3, 8.0)), machine(copy_bytes_per_second=4.0))
    assert at(parts, 0, 0) == pytest.approx(40)


def test_validation_comes_after_every_epoch_and_the_test_once() -> None:
    tested = work(validation_samples=4, test_samples=6)
    assert at(costs.validation(tested, machine()), 0, 1) == pytest.approx(2 * 4 * 0.6)
    assert at(costs.ending(tested, machine()), 0, 1) == pytest.approx(6 * 0.6)


def test_a_best_point_is_looked_for_among_all_training_samples() -> None:
    looked = work(looks=np.array([0, 3, 3]), run=8)
    assert at(costs.validation(looked, machine()), 0, 0) == 0
    assert at(costs.validation(looked, machine()), 0, 1) == pytest.approx(3 * 16 * 0.6)


def test_a_scale_is_taken_through_the_whole_prefix_from_whichever_anchor() -> None:
    parts = costs.ending(work(calibration_samples=np.full(3, 10)), machine())
    assert [at(parts, i, 2) for i in (0, 1, 2)] == pytest.approx([3, 3, 3])


def test_a_stage_is_kept_after_each_epoch_and_at_its_end() -> None:
    parts = costs.ending(work(checkpoint_seconds=np.full(3, 3.0)), machine())
    assert at(parts, 0, 0) == pytest.approx(3 * 3)
    assert at(costs.training(work(checkpoint_seconds=np.full(3, 3.0)), machine()), 0, 0) == pytest.approx(20)


def test_a_scale_takes_more_than_the_samples_that_it_is_taken_from() -> None:
    scaled = work(scale_seconds=np.full(3, 0.2), scale_samples=np.array([10, 10, 0]))
    assert [at(costs.ending(scaled, machine()), 0, j) for j in range(3)] == pytest.approx([2, 2, 0])


def test_what_no_sample_takes_is_paid_by_the_stage_the_block_and_the_epoch() -> None:
    fixed = machine(stage_seconds=100.0, block_seconds=10.0, epoch_seconds=1.0)
    parts = costs.ending(work(begin_seconds=np.full(3, 0.5)), fixed)
    assert [at(parts, i, 2) for i in (0, 1, 2)] == pytest.approx([122.5, 112.5, 102.5])  # of the prefix alone
    scaled = costs.ending(work(scale_samples=np.ones(3, np.int64)), fixed)
    assert at(scaled, 1, 2) == pytest.approx(100 + (1 + 3) * 10 + 2)  # for a scale all are read once more
    done = costs.ending(work(is_trained=np.ones(3, bool), epochs=np.zeros(3, np.int64)), fixed)
    assert at(done, 0, 2) == 0


def test_a_store_that_is_not_there_yet_has_its_own_price() -> None:
    parts = costs.writing(work(exists=np.array([True, True, False])), machine(store_seconds=7.0))
    assert [at(parts, i, i + 1) for i in (0, 1)] == pytest.approx([0, 20 * 0.1 + 7])


def test_the_last_run_of_a_split_is_filled_up() -> None:
    tested = work(run=8, validation_samples=4, test_samples=9)
    assert at(costs.validation(tested, machine()), 0, 0) == pytest.approx(2 * 8 * 0.5)
    assert at(costs.ending(tested, machine()), 0, 0) == pytest.approx(16 * 0.5)
    assert at(costs.writing(tested, machine()), 0, 1) == pytest.approx((2 * 16 + 8 + 16) * 0.1)


def test_writing_replays_all_views_and_overlaps_with_reading_and_packing() -> None:
    parts = costs.writing(work(validation_samples=3, test_samples=2, disk_bytes=np.array([0.0, 0, 100])), machine())
    assert at(parts, 0, 1) == pytest.approx(25 * 0.1)
    assert at(parts, 0, 2) == pytest.approx(25 * 2)
    assert parts.limit(0, 2) == "disk"
    assert parts.replay[0, 2] == pytest.approx(25 * 0.1)


def test_one_disk_reads_and_writes_in_turn() -> None:
    parts = costs.writing(work(disk_bytes=np.array([0.0, 100, 100])), machine())
    assert at(parts, 1, 2) == pytest.approx(20 * (1 + 2))


def test_what_is_trained_or_stored_costs_nothing_more() -> None:
    done = work(
        epochs=np.array([0, 0, 2]),
        is_trained=np.array([True, True, False]),
        exists=np.array([True, True, False]),
        validation_samples=3,
        test_samples=3,
        calibration_samples=np.full(3, 10),
    )
    for of in (costs.training, costs.validation, costs.ending):
        assert at(of(done, machine()), 0, 1) == 0
        assert at(of(done, machine()), 0, 2) > 0
    assert at(costs.writing(done, machine()), 0, 1) == 0
    assert at(costs.writing(done, machine()), 1, 2) > 0


def test_canvases_are_replayed_up_to_where_windows_are_cut() -> None:
    canvas = work(4, field_seconds=np.full(4, 0.4), cut_at=np.array([0, 1, 1, 1]))
    replay = costs.replay_seconds(canvas)
    assert replay[0, 3] == pytest.approx(0.4 + 0.2)
    assert replay[1, 3] == pytest.approx(0.2)
    assert costs.replay_seconds(canvas, to_fields=True)[0, 3] == pytest.approx(1.2)


def test_a_thousand_stages_are_priced_in_a_second() -> None:
    many = work(1000, disk_bytes=np.ones(1000))
    began = time.process_time()
    for of in (costs.training, costs.validation, costs.ending, costs.writing):
        of(many, machine())
    assert time.process_time() - began < 1
