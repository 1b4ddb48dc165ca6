"""The method of "Shallow Learning for Deep Networks": plain torch modules, no files and no store."""

from cascade.blocks import Block
from cascade.calibration import Fidelity, calibrate, fidelity
from cascade.compression import keep_filters, strongest, taylor_scores
from cascade.convolution import Convolution
from cascade.downsample import DOWNSAMPLES, Downsample, InvertibleDownsample
from cascade.ensemble import ensemble
from cascade.heads import Head
from cascade.local import Outputs, training_forward
from cascade.network import CentreWindow, Network, Prefix, count_network, make_block, make_head, parameter_count
from cascade.norm import GroupedBatchNorm
from cascade.quantiser import Quantiser
from cascade.recomputed import recomputed, stage_parts
from cascade.shapes import StageShape, stage_shapes, thinned
from cascade.similarity import SimilarityFeatures, similarity_loss

__all__ = [
    "DOWNSAMPLES",
    "Block",
    "CentreWindow",
    "Convolution",
    "Downsample",
    "Fidelity",
    "GroupedBatchNorm",
    "Head",
    "InvertibleDownsample",
    "Network",
    "Outputs",
    "Prefix",
    "Quantiser",
    "SimilarityFeatures",
    "StageShape",
    "calibrate",
    "count_network",
    "ensemble",
    "fidelity",
    "keep_filters",
    "make_block",
    "make_head",
    "parameter_count",
    "recomputed",
    "similarity_loss",
    "stage_parts",
    "stage_shapes",
    "strongest",
    "taylor_scores",
    "thinned",
    "training_forward",
]
