import numpy as np
import pytest
from numpy.typing import NDArray

from cache import decode, encode, sample_bytes
from cache.encodings import ELEMENT_TYPES, pack_nibbles, stored_shape, unpack_nibbles

ONES = np.ones(1, np.float32)


def round_trip(x: NDArray[np.float32], encoding: str, scale: NDArray[np.float32] = ONES) -> NDArray[np.float32]:
    return decode(encode(x, encoding, scale), encoding, scale, x.shape[-1])


@pytest.mark.parametrize("encoding", ELEMENT_TYPES)
def test_stored_numbers_have_the_element_type_of_the_encoding(encoding: str) -> None:
    assert encode(np.ones((2, 1, 3, 3), np.float32), encoding, ONES).dtype == ELEMENT_TYPES[encoding]


@pytest.mark.parametrize("encoding", ELEMENT_TYPES)
def test_decoded_activations_are_float32_and_zero_stays_zero(encoding: str) -> None:
    x = round_trip(np.zeros((2, 1, 3, 3), np.float32), encoding)
    assert x.shape == (2, 1, 3, 3)
    assert x.dtype == np.float32
    assert not x.any()


def test_uint8_divides_by_the_scale_rounds_half_to_even_and_saturates() -> None:
    x = np.array([-7.0, -0.25, 0.25, 0.75, 1.25, 127.5, 128.0, 1e9], np.float32).reshape(1, 1, 1, -1)
    scale = np.array([0.5], np.float32)
    stored = encode(x, "uint8", scale)
    assert stored.ravel().tolist() == [0, 0, 0, 2, 2, 255, 255, 255]
    assert decode(stored, "uint8", scale, 8).ravel().tolist() == [0, 0, 0, 1, 1, 127.5, 127.5, 127.5]


def test_uint4_divides_by_the_scale_rounds_half_to_even_and_saturates() -> None:
    x = np.array([-7.0, -0.25, 0.25, 0.75, 1.25, 7.25, 7.5, 7.75, 8.0, 1e9], np.float32).reshape(1, 1, 1, -1)
    scale = np.array([0.5], np.float32)
    stored = encode(x, "uint4", scale)
    assert unpack_nibbles(stored, 10).ravel().tolist() == [0, 0, 0, 2, 2, 14, 15, 15, 15, 15]
    assert decode(stored, "uint4", scale, 10).ravel().tolist() == [0, 0, 0, 1, 1, 7, 7.5, 7.5, 7.5, 7.5]


def test_left_neighbour_is_in_the_low_four_bits_and_zero_behind_an_odd_width() -> None:
    x = np.array([[1, 2, 3], [15, 0, 9]], np.float32).reshape(1, 1, 2, 3)
    assert encode(x, "uint4", ONES).tolist() == [[[[0x21, 0x03], [0x0F, 0x09]]]]


@pytest.mark.parametrize("width", [1, 2, 3, 8, 9])
def test_packed_numbers_come_back_from_every_width(width: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 16, (2, 5, 3, 4, width), np.uint8)
    packed = pack_nibbles(numbers)
    assert packed.shape == (2, 5, 3, 4, (width + 1) // 2)
    np.testing.assert_array_equal(unpack_nibbles(packed, width), numbers)


def test_every_byte_holds_two_numbers() -> None:
    stored = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    numbers = unpack_nibbles(stored, 32)
    assert numbers.max() == 15
    np.testing.assert_array_equal(pack_nibbles(numbers), stored)


@pytest.mark.parametrize(
    ("encoding", "shape", "nbytes"),
    [
        ("float32", (3, 5, 7), 420),
        ("float16", (3, 5, 7), 210),
        ("uint8", (3, 5, 7), 105),
        ("uint4", (3, 5, 4), 60),
        ("identity", (3, 5, 7), 105),
    ],
)
def test_a_stored_sample_has_this_shape_and_so_many_bytes(
    encoding: str, shape: tuple[int, int, int], nbytes: int
) -> None:
    assert stored_shape(encoding, (3, 5, 7)) == shape
    assert sample_bytes(encoding, (3, 5, 7)) == nbytes
    stored = encode(np.zeros((1, 3, 5, 7), np.float32), encoding, np.ones(3, np.float32))
    assert (stored.shape[1:], stored.nbytes) == (shape, nbytes)


@pytest.mark.parametrize("encoding", ["uint8", "uint4"])
def test_each_channel_has_its_own_scale_whatever_axes_stand_before(encoding: str) -> None:
    scale = np.array([1.0, 2.0, 4.0], np.float32)
    x = np.full((2, 5, 3, 2, 1), 8, np.float32)  # view, sample, channel, height, width
    stored = encode(x, encoding, scale)
    assert stored.shape == x.shape
    assert stored[1, 4, :, 1, 0].tolist() == [8, 4, 2]
    assert (decode(stored, encoding, scale, 1) == x).all()


def test_float16_saturates_and_never_becomes_infinite() -> None:
    x = np.array([65504.0, 65520.0, 1e9, -1e9, np.inf], np.float32).reshape(1, 1, 1, -1)
    assert encode(x, "float16", ONES).ravel().tolist() == [65504, 65504, 65504, -65504, 65504]


def test_float16_rounds_half_to_even() -> None:
    x = np.array([2049.0, 2051.0], np.float32).reshape(1, 1, 1, -1)  # half way between 2048, 2050 and 2052
    assert encode(x, "float16", ONES).ravel().tolist() == [2048, 2052]


def test_float32_keeps_every_bit() -> None:
    x = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype(np.float32)
    assert round_trip(x, "float32").tobytes() == x.tobytes()


def test_images_are_stored_as_their_own_bytes() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert (decode(image, "identity", 7 * ONES, 16) == image).all()
