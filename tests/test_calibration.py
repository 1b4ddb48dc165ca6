"""Scales: taken from a sample that comes in batches, and what an encoding with them costs."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import decode, encode
from cascade import Quantiser, calibrate, fidelity
from pipeline import calibration
from pipeline.calibration import calibrate_output, describe_encoding
from pipeline.device import choose_device
from pipeline.feed import Feed
from pipeline.networks import EncodingRecord, load_block, load_quantiser
from pipeline.progress import Reporter
from pipeline.training import train_stage
from tests.runs import digits_run, tiny_run

CPU = choose_device("cpu")
TINY = float(np.finfo(np.float32).tiny)


def calibrated(encoding: str, *batches: Tensor) -> Quantiser:
    quantiser = Quantiser(encoding, batches[0].shape[1])
    calibrate(quantiser, lambda: batches)
    return quantiser


def with_scale(encoding: str, *scale: float) -> Quantiser:
    quantiser = Quantiser(encoding, len(scale))
    quantiser.scale.copy_(torch.tensor(scale))
    return quantiser


def row(*values: float) -> Tensor:
    """Activations of one sample and channel."""
    return torch.tensor(values).view(1, 1, 1, -1)


def heavy_tailed() -> Tensor:
    """What a ReLU gives: half of it zero, and a few activations far above the others; (64, 6, 8, 8)."""
    normal = np.random.default_rng(0).normal(size=(64, 6, 8, 8))
    spread = np.array([0.01, 1.0, 1.0, 30.0, 1.0, 1.0]).reshape(-1, 1, 1)
    power = np.array([1.0, 1.0, 2.0, 1.5, 3.0, 0.5]).reshape(-1, 1, 1)
    return torch.from_numpy((spread * normal.clip(0) ** power).astype(np.float32))


def squared_errors(x: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of uint4, by channel, by the numpy reference."""
    decoded = decode(encode(x, "uint4", scale), "uint4", scale, x.shape[-1])
    errors: NDArray[np.float64] = ((decoded.astype(np.float64) - x) ** 2).sum((0, 2, 3))
    return errors


def test_uint8_maps_the_largest_activation_of_each_channel_to_255() -> None:
    x = torch.rand(4, 3, 8, 8) * torch.tensor([0.01, 1.0, 1000.0]).view(-1, 1, 1)
    largest = x.amax((0, 2, 3))
    quantiser = calibrated("uint8", x[:1], x[1:])
    assert torch.equal(quantiser.scale, largest / 255)
    assert quantiser.encode(x).amax((0, 2, 3)).tolist() == [255, 255, 255]
    assert ((quantiser(x) - x).abs().amax((0, 2, 3)) <= largest / 255 * 0.501).all()


@pytest.mark.parametrize(("encoding", "levels"), [("uint8", 255), ("uint4", 15)])
def test_silent_channel_gets_the_range_of_the_most_active_one(encoding: str, levels: int) -> None:
    x = torch.zeros(2, 3, 4, 4)
    x[:, 0, 0, 0], x[:, 2] = 2.0, 51.0
    x[:, 2, 0, 0] = 25.0
    quantiser = calibrated(encoding, x)
    assert quantiser.scale[1] == torch.tensor(51.0) / levels
    rare = torch.zeros(1, 3, 1, 1)
    rare[0, 1] = 51.0
    torch.testing.assert_close(quantiser(rare), rare)


@pytest.mark.parametrize("encoding", ["uint8", "uint4"])
@pytest.mark.parametrize("largest", [0.0, 1e-45, 1e-38, 1e-36])
def test_no_scale_is_subnormal_and_zero_stays_zero_in_channels_that_are_nearly_silent(
    encoding: str, largest: float
) -> None:
    x = torch.zeros(2, 2, 2, 2)
    x[0, :, 0] = largest
    quantiser = calibrated(encoding, x)
    assert (quantiser.scale >= TINY).all()
    assert not encode(np.zeros((1, 2, 1, 1), np.float32), encoding, quantiser.scale.numpy()).any()
    assert not quantiser(torch.zeros(1, 2, 1, 1)).any()


def test_uint4_scale_has_about_the_least_squared_error_there_is() -> None:
    x = heavy_tailed().numpy()
    full_range = x.max((0, 2, 3)) / np.float32(15)
    dense = full_range * np.geomspace(1, 1 / 32, 700, dtype=np.float32)[:, None]
    chosen = squared_errors(x, calibrated("uint4", torch.from_numpy(x)).scale.numpy())
    assert (chosen < 1.03 * np.min([squared_errors(x, scale) for scale in dense], axis=0)).all()


def test_uint4_scale_is_better_than_the_full_range_and_than_a_smaller_and_a_larger_scale() -> None:
    x = heavy_tailed().numpy()
    scale = calibrated("uint4", torch.from_numpy(x)).scale.numpy()
    chosen = squared_errors(x, scale)
    assert (chosen < 0.8 * squared_errors(x, x.max((0, 2, 3)) / np.float32(15))).all()
    for factor in (0.5, 0.75, 1.33, 2):
        assert (chosen < squared_errors(x, scale * np.float32(factor))).all()


def test_a_channel_of_sixteen_even_steps_keeps_its_range_and_has_no_error() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4) * 0.25
    quantiser = calibrated("uint4", x)
    assert quantiser.scale.tolist() == [0.25]
    assert torch.equal(quantiser(x), x)


@pytest.mark.parametrize("encoding", ["uint8", "uint4"])
def test_how_the_sample_is_split_into_batches_changes_no_bit_of_the_scale(encoding: str) -> None:
    x = heavy_tailed()
    whole = calibrated(encoding, x).scale
    for sizes in ([1, 63], [20, 20, 24], [8] * 8):
        assert torch.equal(calibrated(encoding, *torch.split(x, sizes)).scale, whole)


@pytest.mark.parametrize(("encoding", "looks"), [("float32", 0), ("float16", 0), ("uint8", 1), ("uint4", 2)])
def test_the_sample_is_made_batch_by_batch_as_often_as_it_is_looked_at_and_never_held(
    encoding: str, looks: int
) -> None:
    alive = most = begun = 0

    def dies() -> None:
        nonlocal alive
        alive -= 1

    def sample() -> Iterator[Tensor]:
        nonlocal alive, most, begun
        begun += 1
        for _ in range(10):
            x = torch.rand(2, 3, 4, 4)
            weakref.finalize(x, dies)
            alive += 1
            most = max(most, alive)
            yield x

    quantiser = Quantiser(encoding, 3)
    calibrate(quantiser, sample)
    assert begun == looks
    assert most <= 3, "of ten: one in the making, the one before it, and the last of the look before"
    if not looks:
        assert quantiser.scale.tolist() == [1, 1, 1]


def test_half_precision_activations_are_looked_at_as_float32() -> None:
    x = heavy_tailed().bfloat16()
    for encoding in ("uint8", "uint4"):
        assert torch.equal(calibrated(encoding, x).scale, calibrated(encoding, x.float()).scale)
        assert fidelity(calibrated(encoding, x), [x]) == fidelity(calibrated(encoding, x), [x.float()])


def test_signal_to_noise_and_saturation_are_those_by_hand() -> None:
    x = torch.cat([row(0.25, 3.0, 300.0), row(0.0, 0.5, 2.0)], dim=1)
    found = fidelity(with_scale("uint8", 1.0, 0.01), [x])
    noise = 0.25**2 + (300 - 255) ** 2
    signal = 0.25**2 + 3**2 + 300**2 + 0.5**2 + 2**2
    assert found.signal_to_noise_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-4)
    assert found.saturated_share == pytest.approx(1 / 6)


def test_what_rounds_down_to_the_largest_number_is_not_saturated() -> None:
    assert fidelity(with_scale("uint4", 2.0), [row(30.0, 30.9)]).saturated_share == 0
    assert fidelity(with_scale("uint4", 2.0), [row(30.0, 31.1)]).saturated_share == 0.5
    assert fidelity(Quantiser("float16", 1), [row(65504.0, 70000.0, 1.0, 2.0)]).saturated_share == 0.25


def test_float32_costs_nothing_and_float16_lies_above_70_decibels() -> None:
    x = heavy_tailed()
    exact = fidelity(Quantiser("float32", 6), [x])
    assert (exact.signal_to_noise_db, exact.saturated_share) == (None, 0)
    rounded = fidelity(Quantiser("float16", 6), [x])
    assert rounded.signal_to_noise_db is not None
    assert 70 < rounded.signal_to_noise_db < 80
    assert rounded.saturated_share == 0


def test_fewer_levels_cost_more() -> None:
    x = heavy_tailed()
    ratios = [fidelity(calibrated(encoding, x), [x]).signal_to_noise_db or 0 for encoding in ("uint4", "uint8")]
    assert 10 < ratios[0] < ratios[1] - 10


@pytest.mark.parametrize("encoding", ["float32", "float16", "uint8", "uint4"])
@pytest.mark.parametrize("sample", [[], [torch.zeros(2, 3, 2, 2)]])
def test_without_samples_or_without_signal_there_is_no_ratio(encoding: str, sample: list[Tensor]) -> None:
    found = fidelity(Quantiser(encoding, 3), sample)
    assert (found.signal_to_noise_db, found.saturated_share) == (None, 0)


def test_the_cost_does_not_depend_on_how_the_sample_is_split_into_batches() -> None:
    x = heavy_tailed()
    quantiser = with_scale("uint4", *calibrated("uint4", x).scale.tolist())
    whole, split = fidelity(quantiser, [x]), fidelity(quantiser, torch.split(x, 10))
    assert whole.saturated_share == split.saturated_share > 0
    assert whole.signal_to_noise_db == pytest.approx(split.signal_to_noise_db)


def test_the_scale_is_taken_from_the_first_images_and_its_cost_from_as_many_that_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = digits_run(tmp_path / "run", "cache.keep=none", "store.encoding=uint8", "network.precision=float32")
    train_stage(run, 0, CPU, Reporter())
    seen: dict[str, Tensor] = {}

    def spied_calibrate(quantiser: Quantiser, sample: Callable[[], Iterable[Tensor]]) -> None:
        seen["calibrate"] = torch.cat(list(sample()))
        calibrate(quantiser, sample)

    def spied_fidelity(quantiser: Quantiser, sample: Iterable[Tensor]) -> object:
        seen["fidelity"] = torch.cat(list(sample))
        return fidelity(quantiser, [seen["fidelity"]])

    monkeypatch.setattr(calibration, "SAMPLES", 100)  # runs are of 64
    monkeypatch.setattr(calibration, "calibrate", spied_calibrate)
    monkeypatch.setattr(calibration, "fidelity", spied_fidelity)
    record = calibrate_output(run, 0, CPU)
    feed = Feed(run, 0, CPU, anchor=0)
    x_1 = torch.cat([x for x, _ in feed.sequential("train", load_block(run, 0))])
    assert torch.equal(seen["calibrate"], x_1[:100])
    assert torch.equal(seen["fidelity"], x_1[100:200])
    assert load_quantiser(run, 0).scale.tolist() == record.scale
    assert torch.equal(load_quantiser(run, 0).scale, x_1[:100].amax((0, 2, 3)) / 255)


def test_the_cost_of_an_encoding_reads_as_decibels_and_percent() -> None:
    def words(ratio: float | None, share: float) -> str:
        record = EncodingRecord(
            encoding="uint4", scale=[1.0], signal_to_noise_db=ratio, saturated_share=share, block=""
        )
        return describe_encoding(record)

    assert words(41.26, 0.00002) == "uint4: 41.3 dB signal to noise, 0.002% saturated"
    assert words(41.26, 0.0) == "uint4: 41.3 dB signal to noise, 0% saturated"
    assert words(None, 0.0) == "uint4: no error"


@pytest.mark.parametrize(("keep", "is_said"), [("all", True), ("none", False), ("[2]", False)])
def test_what_an_encoding_costs_is_said_where_something_is_written_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: str, is_said: bool
) -> None:
    run = tiny_run(tmp_path / "run", "train.epochs=1", f"cache.keep={keep}")
    train_stage(run, 0, CPU, Reporter())
    assert ("x_1 as float16: " in capsys.readouterr().err) == is_said
    assert run.stages[0].scale.exists(), "what is replayed is rounded too"
