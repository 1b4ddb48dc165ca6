"""Local similarity loss: samples of one class are to have alike features, those of two classes features that differ.

Nøkland and Eidnes, "Training Neural Networks with Local Error Signals", ICML 2019, arXiv:1901.06656. Their "predsim"
loss of a block is (1 - w) cross_entropy + w L_sim, with w = 0.99, and

    L_sim = || S(f) - S(onehot(y)) ||^2 / n^2,    S(v)_ab = cos(v_a - mean(v_a), v_b - mean(v_b))

over the n^2 pairs (a, b) of n samples, where f is, of each channel of a 3x3 convolution of the block's output, the
standard deviation over pixels, as in their code. S is 1 of a label with itself, -1 / (classes - 1) of two labels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cascade.convolution import Convolution

TINY = 1e-8
"""Added to the length of a vector, so that features that are all equal have similarity 0."""


class SimilarityFeatures(nn.Module):
    """f: a block's output (N, C, H, W) to (N, C) float32, the deviation over pixels of a 3x3 convolution without bias.

    Of one pixel there is no deviation, and f is that pixel. The convolution is trained with the block by the similarity
    loss alone, and does nothing in evaluation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Convolution(channels, channels, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        fields = y.flatten(2).float()
        return fields.std(2) if fields.shape[2] > 1 else fields[:, :, 0]


def similarities(vectors: Tensor) -> Tensor:
    """S: cosines (N, N) of N centred vectors (N, D), -1..1, in float32 also under autocast."""
    with torch.autocast(vectors.device.type, enabled=False):
        centred = vectors - vectors.mean(1, keepdim=True)
        unit = centred / (centred.norm(dim=1, keepdim=True) + TINY)
        cosines: Tensor = (unit @ unit.T).clamp(-1, 1)
    return cosines


def similarity_loss(features: Tensor, y: Tensor, *, classes: int, group: int = 0) -> Tensor:
    """The sum over samples of L_sim of the group that they are in: features (N, D) and labels (N,) to a number.

    Samples first..first+group-1 are a group, 0 makes all one, and pairs are of one group. The last group may be
    smaller. So the loss of a batch is the sum of those of its parts, wherever these are of whole groups.
    """
    labels = F.one_hot(y, classes).float()
    size = group or len(y)
    losses = [
        (similarities(f) - similarities(one_hot)).square().sum() / len(f)
        for f, one_hot in zip(torch.split(features, size), torch.split(labels, size), strict=True)
    ]
    return torch.stack(losses).sum()
