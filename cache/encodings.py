"""Encodings, defined in numpy: how activations become stored numbers and come back.

An encoding is part of the method: x_j is the decoded value. `cascade.quantiser` does the same on the device and is
tested against this page.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ELEMENT_TYPES = {"identity": "uint8", "float32": "float32", "float16": "float16", "uint8": "uint8"}
"""Encoding -> element type on disk. "identity" is for images: the bytes themselves."""

FLOAT16_MAX = np.float32(65504)


def element_bytes(encoding: str) -> int:
    """Bytes of one stored number."""
    return int(np.dtype(ELEMENT_TYPES[encoding]).itemsize)


def _per_channel(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(scale, dtype=np.float32).reshape(-1, 1, 1)


def encode(x: NDArray[np.float32], encoding: str, scale: NDArray[np.float32]) -> NDArray[Any]:
    """Stored numbers of activations x, (..., C, H, W); `scale` is (C,) and used by "uint8" alone.

    "uint8" rounds x / scale half to even and saturates at 0 and 255; "float16" saturates at 65504.
    """
    if encoding == "uint8":
        x = np.clip(np.rint(x / _per_channel(scale)), 0, 255)
    elif encoding == "float16":
        x = np.clip(x, -FLOAT16_MAX, FLOAT16_MAX)
    return x.astype(np.dtype(ELEMENT_TYPES[encoding]))


def decode(stored: NDArray[Any], encoding: str, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Activations, (..., C, H, W) float32, of stored numbers of the same shape."""
    x = stored.astype(np.float32)
    return x * _per_channel(scale) if encoding == "uint8" else x
