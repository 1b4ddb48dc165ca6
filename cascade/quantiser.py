"""Encodings on the device: how a float tensor becomes the numbers that are stored, and comes back.

x_j *is* the decoded value, so a quantiser stands between any two blocks, stored or replayed. The reference
definition, in numpy, is `cache.encodings`; a test holds the two equal.
"""

import torch
from torch import Tensor, nn

FLOAT16_MAX = 65504.0


class Quantiser(nn.Module):
    """Encode and decode activations of `channels` channels.

    "float32" keeps them, "float16" rounds and saturates them at 65504, "uint8" divides each channel by its
    `scale`, rounds half to even and saturates at 0 and 255, so an exact zero stays zero and whatever is
    negative becomes zero.
    """

    scale: Tensor

    def __init__(self, encoding: str, channels: int) -> None:
        super().__init__()
        if encoding not in ("float32", "float16", "uint8"):
            raise ValueError(f"encoding = {encoding!r}: expected float32, float16 or uint8")
        self.encoding = encoding
        self.register_buffer("scale", torch.ones(channels, dtype=torch.float32))

    def encode(self, x: Tensor) -> Tensor:
        """Stored numbers, (N, C, H, W) in the encoding's element type, of activations x, (N, C, H, W)."""
        x = x.float()
        if self.encoding == "uint8":
            return (x / self.scale.view(-1, 1, 1)).round().clamp(0, 255).to(torch.uint8)
        if self.encoding == "float16":
            return x.clamp(-FLOAT16_MAX, FLOAT16_MAX).half()
        return x

    def decode(self, stored: Tensor) -> Tensor:
        """Activations, (N, C, H, W) float32, of stored numbers of the same shape."""
        x = stored.float()
        return x * self.scale.view(-1, 1, 1) if self.encoding == "uint8" else x

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def calibrate(self, channel_max: Tensor) -> None:
        """Set the scale from the largest activation seen in each channel, (C,).

        A channel that was never active gets the scale of the most active one, so that a rare activation of it
        survives. Does nothing for the float encodings, which have no scale.
        """
        if self.encoding == "uint8":
            largest = channel_max.float()
            largest = torch.where(largest <= 0, largest.max(), largest)
            self.scale.copy_(largest.clamp(min=torch.finfo(torch.float32).tiny * 255) / 255)
