"""The comparison of device memory counts what it says, on a small network."""

import tomllib
from functools import partial

import torch

from pipeline.config_file import read_config
from pipeline.ledger import memory_of
from pipeline.presets import preset_text
from tests.benchmarks.memory import end_to_end, network

K3 = read_config(tomllib.loads(preset_text("imagenet-k3")), where="imagenet-k3")


def test_a_network_of_another_depth_samples_down_after_the_same_shares() -> None:
    shapes = network(K3, stages=16, width=64, head_width=200, pool=1, side=224)
    assert [shape.j for shape in shapes if shape.downsample] == [0, 4, 8, 12]
    assert [shape.out_channels for shape in shapes[::4]] == [64, 128, 256, 512]
    assert [shape.head_width for shape in shapes[::4]] == [128, 200, 200, 200]


def test_each_way_of_saving_memory_saves_some() -> None:
    shapes = network(K3, stages=8, width=8, head_width=8, pool=1, side=32)
    ways = ("summed", "checkpointed", "offloaded")
    made = {way: end_to_end(K3, shapes, way, torch.bfloat16, 32) for way in ways}
    peaks = {way: memory_of(partial(made[way], 2)).peak(1024) for way in ways}
    assert max(peaks["checkpointed"], peaks["offloaded"]) < peaks["summed"]
