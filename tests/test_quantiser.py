from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cache import decode, encode
from cascade import Quantiser

ENCODINGS = ["float32", "float16", "uint8", "uint4"]
SCALE = np.array([1.0, 0.5, 0.03, 1e-30], np.float32)


def calibrated(encoding: str, scale: NDArray[np.float32] = SCALE) -> Quantiser:
    quantiser = Quantiser(encoding, len(scale))
    quantiser.scale.copy_(torch.from_numpy(scale))
    return quantiser


def values(kind: str) -> NDArray[np.float32]:
    """Activations (2, 4, 16, 16) of one kind."""
    rng = np.random.default_rng(0)
    normal: NDArray[Any] = rng.normal(size=(2, 4, 16, 16))
    x: NDArray[Any]
    per_channel = SCALE.reshape(-1, 1, 1)
    match kind:
        case "random":
            x = normal * 100 * per_channel
        case "negative":
            x = -abs(normal) * 100 * per_channel
        case "zero":
            x = np.where(normal > 0, 0.0, -0.0)
        case "tie":
            x = (np.arange(512).reshape(2, 1, 16, 16) - 128 + 0.5) * per_channel
        case "huge":
            x = normal * 1e8
        case "infinite":
            x = np.where(normal > 0, np.inf, -np.inf)
        case "subnormal":
            x = normal * 1e-40
        case _:
            x = 65504 + normal * 64
    return x.astype(np.float32)


KINDS = ["random", "negative", "zero", "tie", "huge", "infinite", "subnormal", "near the largest float16"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [16, 15, 1])
def test_device_and_numpy_reference_agree_in_every_bit(kind: str, encoding: str, width: int) -> None:
    x = values(kind)[..., :width]
    quantiser = calibrated(encoding)
    stored = quantiser.encode(torch.from_numpy(x))
    reference = encode(x, encoding, SCALE)
    assert stored.numpy().dtype == reference.dtype
    assert stored.shape == reference.shape
    assert stored.numpy().tobytes() == reference.tobytes()
    decoded = decode(reference, encoding, SCALE, width)
    assert quantiser.decode(quantiser.unpack(stored, width)).numpy().tobytes() == decoded.tobytes()
    assert quantiser(torch.from_numpy(x)).numpy().tobytes() == decoded.tobytes()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_layout_in_memory_changes_no_number(encoding: str) -> None:
    x = torch.from_numpy(values("random"))[..., :15]
    channels_last = x.contiguous(memory_format=torch.channels_last)
    quantiser = calibrated(encoding)
    stored = quantiser.encode(channels_last)
    assert torch.equal(stored, quantiser.encode(x.contiguous()))
    assert torch.equal(quantiser.unpack(stored, 15), quantiser.unpack(stored.contiguous(), 15))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_exact_zero_stays_zero(encoding: str) -> None:
    assert not calibrated(encoding)(torch.zeros(2, 4, 3, 3)).any()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_quantising_twice_changes_nothing(encoding: str) -> None:
    once = calibrated(encoding, SCALE[:3])(torch.randn(2, 3, 5, 5).relu())
    assert torch.equal(calibrated(encoding, SCALE[:3])(once), once)


def test_float32_keeps_every_bit() -> None:
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(Quantiser("float32", 4)(x), x)


def test_uint8_rounds_half_to_even_and_saturates_at_both_ends() -> None:
    x = torch.tensor([-3.0, -0.5, 0.5, 1.5, 2.5, 254.5, 255.4, 256.0, 1e9]).view(1, 1, 1, -1)
    assert Quantiser("uint8", 1)(x).flatten().tolist() == [0, 0, 0, 2, 2, 254, 255, 255, 255]


def test_float16_saturates_and_never_becomes_infinite() -> None:
    x = torch.tensor([65504.0, 65520.0, 1e9, float("inf"), -float("inf")]).view(1, 1, 1, -1)
    assert Quantiser("float16", 1)(x).flatten().tolist() == [65504, 65504, 65504, 65504, -65504]


def test_uint4_rounds_half_to_even_and_saturates_at_both_ends() -> None:
    x = torch.tensor([-3.0, -0.5, 0.5, 1.5, 2.5, 14.5, 15.4, 16.0, 1e9]).view(1, 1, 1, -1)
    assert Quantiser("uint4", 1)(x).flatten().tolist() == [0, 0, 0, 2, 2, 14, 15, 15, 15]


@pytest.mark.parametrize("width", [1, 2, 7, 8])
def test_uint4_packs_the_left_neighbour_low_and_unpacks_what_it_packed(width: int) -> None:
    x = torch.arange(1.0, width + 1).view(1, 1, 1, -1)
    quantiser = Quantiser("uint4", 1)
    stored = quantiser.encode(x)
    numbers = [*range(1, width + 1), 0]
    assert stored.flatten().tolist() == [numbers[i] + 16 * numbers[i + 1] for i in range(0, width, 2)]
    assert torch.equal(quantiser.unpack(stored, width), x.to(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_half_precision_activations_are_stored_as_their_float32_values(encoding: str, dtype: torch.dtype) -> None:
    x = torch.rand(2, 4, 3, 3).to(dtype)
    quantiser = calibrated(encoding)
    assert quantiser.encode(x).dtype == quantiser.encode(x.float()).dtype
    assert torch.equal(quantiser.encode(x), quantiser.encode(x.float()))


def test_scale_is_saved_with_the_network_and_is_no_parameter() -> None:
    quantiser = calibrated("uint8")
    again = Quantiser("uint8", 4)
    again.load_state_dict(quantiser.state_dict())
    assert torch.equal(again.scale, torch.from_numpy(SCALE))
    assert list(quantiser.parameters()) == []


def test_unknown_encoding_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="encoding = 'int3': expected one of float32, float16, uint8, uint4"):
        Quantiser("int3", 4)


@pytest.mark.parametrize("encoding", ["uint8", "uint4"])
def test_half_precision_is_divided_in_float32(encoding: str) -> None:
    quantiser = Quantiser(encoding, 3)
    quantiser.scale.copy_(torch.tensor([0.013, 0.37, 1.9]))
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).mul(3).bfloat16()
    assert torch.equal(quantiser.encode(x), quantiser.encode(x.float()))
    assert torch.equal(quantiser(x), quantiser(x.float()).bfloat16())


def test_what_is_encoded_stays_as_it_was() -> None:
    quantiser = Quantiser("uint8", 3)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.full((2, 3, 4, 4), 2.5, dtype=dtype)
        quantiser.encode(x)
        assert (x == 2.5).all()
