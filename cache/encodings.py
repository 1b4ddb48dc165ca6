"""Encodings, defined in numpy: how activations become stored numbers and come back.

An encoding is part of the method: x_j is the decoded value. `cascade.quantiser` does the same on the device and is
tested against this page.

"uint4" stores two numbers in a byte, neighbours along the width: the left one in the low four bits, the right one in
the high four, and zero behind the last of an odd width.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ELEMENT_TYPES = {
    "identity": "uint8",
    "float32": "float32",
    "float16": "float16",
    "uint8": "uint8",
    "uint4": "uint8",
}
"""Encoding -> element type on disk. "identity" is for images: the bytes themselves."""

LEVELS = {"uint8": 255, "uint4": 15}
"""Encoding -> largest stored number, of those that divide by a scale."""

FLOAT16_MAX = np.float32(65504)


def stored_shape(encoding: str, sample_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Shape of a stored sample of activations (C, H, W): (C, H, ceil(W / 2)) for "uint4", else the same."""
    channels, height, width = sample_shape
    return (channels, height, -(-width // 2)) if encoding == "uint4" else sample_shape


def sample_bytes(encoding: str, sample_shape: tuple[int, int, int]) -> int:
    """Bytes of a stored sample of activations (C, H, W) before compression."""
    return int(np.prod(stored_shape(encoding, sample_shape)) * np.dtype(ELEMENT_TYPES[encoding]).itemsize)


def encode(x: NDArray[np.float32], encoding: str, scale: NDArray[np.float32]) -> NDArray[Any]:
    """Stored numbers of activations x, (..., C, H, W); `scale` is (C,), and what "uint8" and "uint4" divide by.

    They round x / scale half to even and saturate at 0 and at 255 or 15; "float16" saturates at 65504.
    """
    if encoding in LEVELS:
        x = np.clip(np.rint(x / _per_channel(scale)), 0, LEVELS[encoding])
    elif encoding == "float16":
        x = np.clip(x, -FLOAT16_MAX, FLOAT16_MAX)
    numbers = x.astype(np.dtype(ELEMENT_TYPES[encoding]))
    return pack_nibbles(numbers) if encoding == "uint4" else numbers


def decode(stored: NDArray[Any], encoding: str, scale: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Activations, (..., C, H, width) float32, of stored numbers."""
    numbers = unpack_nibbles(stored, width) if encoding == "uint4" else stored
    x = numbers.astype(np.float32)
    return x * _per_channel(scale) if encoding in LEVELS else x


def pack_nibbles(numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Numbers 0..15, (..., W), two to a byte: (..., ceil(W / 2))."""
    even = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, numbers.shape[-1] % 2)])
    packed: NDArray[np.uint8] = np.left_shift(even[..., 1::2], 4, dtype=np.uint8) | even[..., 0::2]
    return packed


def unpack_nibbles(stored: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """What `pack_nibbles` packed, (..., width)."""
    both = np.stack([stored & 15, stored >> 4], axis=-1)
    return both.reshape(*stored.shape[:-1], -1)[..., :width]


def _per_channel(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(scale, dtype=np.float32).reshape(-1, 1, 1)
