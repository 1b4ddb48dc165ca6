import numpy as np
import pytest

from cache import decode, encode
from cache.encodings import ELEMENT_TYPES

ONES = np.ones(1, np.float32)


@pytest.mark.parametrize("encoding", ELEMENT_TYPES)
def test_stored_numbers_have_the_element_type_of_the_encoding(encoding: str) -> None:
    assert encode(np.ones((2, 1, 3, 3), np.float32), encoding, ONES).dtype == ELEMENT_TYPES[encoding]


@pytest.mark.parametrize("encoding", ELEMENT_TYPES)
def test_decoded_activations_are_float32_and_zero_stays_zero(encoding: str) -> None:
    x = decode(encode(np.zeros((2, 1, 3, 3), np.float32), encoding, ONES), encoding, ONES)
    assert x.dtype == np.float32
    assert not x.any()


def test_uint8_divides_by_the_scale_rounds_half_to_even_and_saturates() -> None:
    x = np.array([-7.0, -0.25, 0.25, 0.75, 1.25, 127.5, 128.0, 1e9], np.float32).reshape(1, 1, 1, -1)
    scale = np.array([0.5], np.float32)
    stored = encode(x, "uint8", scale)
    assert stored.ravel().tolist() == [0, 0, 0, 2, 2, 255, 255, 255]
    assert decode(stored, "uint8", scale).ravel().tolist() == [0, 0, 0, 1, 1, 127.5, 127.5, 127.5]


def test_each_channel_has_its_own_scale_whatever_axes_stand_before() -> None:
    scale = np.array([1.0, 2.0, 4.0], np.float32)
    x = np.full((2, 5, 3, 2, 2), 8, np.float32)  # view, sample, channel, height, width
    stored = encode(x, "uint8", scale)
    assert stored.shape == x.shape
    assert stored[1, 4, :, 1, 1].tolist() == [8, 4, 2]
    assert (decode(stored, "uint8", scale) == x).all()


def test_float16_saturates_and_never_becomes_infinite() -> None:
    x = np.array([65504.0, 65520.0, 1e9, -1e9, np.inf], np.float32).reshape(1, 1, 1, -1)
    assert encode(x, "float16", ONES).ravel().tolist() == [65504, 65504, 65504, -65504, 65504]


def test_float16_rounds_half_to_even() -> None:
    x = np.array([2049.0, 2051.0], np.float32).reshape(1, 1, 1, -1)  # half way between 2048, 2050 and 2052
    assert encode(x, "float16", ONES).ravel().tolist() == [2048, 2052]


def test_float32_keeps_every_bit() -> None:
    x = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype(np.float32)
    assert decode(encode(x, "float32", ONES), "float32", ONES).tobytes() == x.tobytes()


def test_images_are_stored_as_their_own_bytes() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert (decode(image, "identity", 7 * ONES) == image).all()
