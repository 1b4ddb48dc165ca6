"""What of a config does not go together, section by section: every fault in a line, with what to set."""

from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline.config import (
    EXPECTED_BYTES,
    MIN_BATCH,
    Augment,
    Compress,
    Config,
    StageOverrides,
    budget_bytes,
)
from pipeline.errors import ConfigError

VALUE_SHOWN = 200
"""Characters of a value in a message."""
OF_POLICY = {"views": ("views",), "canvas": ("phases", "cut_at")}
"""Policy of augmentation -> settings that are its alone."""


def shown(value: Any) -> str:
    """A value as it stands in a message; Python shows no integer of more digits than it reads."""
    try:
        return shortened(repr(value))
    except ValueError:
        return "an integer of thousands of digits"


def shortened(text: str) -> str:
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}..."


def misfits(config: Config) -> list[str]:
    """Why the network does not fit images of data.canvas pixels; other sizes are known once there are images."""
    if not config.data.canvas:
        return []
    from pipeline.shapes import network_shapes  # which takes torch a second: not for every config

    try:
        network_shapes(config, channels=config.data.channels or 3, image_side=config.data.canvas)
    except ConfigError as error:
        return [f"data.canvas = {config.data.canvas}: {error}"]
    return []


def _unused(augment: Augment) -> list[str]:
    """Settings of another policy than the one in force: their values would do nothing."""
    fields = {field.name: field.default for field in msgspec.structs.fields(Augment)}
    return [
        f'augment.{name} = {getattr(augment, name)}: under policy = "{augment.policy}" it would do nothing; '
        f'set augment.policy = "{policy}", or leave it at {fields[name]}'
        for policy, names in OF_POLICY.items()
        for name in names
        if policy != augment.policy and getattr(augment, name) != fields[name]
    ]


def _faults_of_scale(augment: Augment) -> list[str]:
    """What is wrong with how much of an image a window shows, and why stored features cannot be resized."""
    faults, scale, ratio = [], augment.scale, augment.ratio
    if len(scale) == 1 or scale != sorted(scale):
        faults.append(f"augment.scale = {scale}: expected the least and the largest share, as in [0.08, 1.0], or []")
    if ratio != sorted(ratio):
        faults.append(f"augment.ratio = {ratio}: expected the least and the largest, as in [0.75, 1.333]")
    if not scale and ratio != Augment().ratio:
        faults.append(f"augment.ratio = {ratio}: without augment.scale it would do nothing; set that too, or leave it")
    if scale and augment.padding:
        faults.append(f"augment.padding = {augment.padding}: with augment.scale images are not padded; set it to 0")
    if scale and augment.policy == "canvas":
        faults.append(
            f'augment.scale = {scale}: under policy = "canvas" windows are cut from stored features, which do not '
            f'resize so; set augment.policy = "views" or "recompute", or leave augment.scale out'
        )
    return faults


def faults_together(sections: Mapping[str, Any]) -> list[str]:
    """What is wrong between fields, in sections that are sound each by itself."""
    names = ("data", "network", "augment", "order", "cache", "budget")
    data, network, augment, order, cache, budget = map(sections.get, names)
    faults = []
    if order and order.window % order.run:
        faults.append(f"order.window = {order.window}: expected a multiple of order.run = {order.run}")
    if network:
        stages, at = network.stages, network.downsample_at
        if any(j >= stages for j in at):
            faults.append(f"network.downsample_at = {at}: j goes from 0 to {stages - 1}")
        if len(set(at)) < len(at):
            faults.append(f"network.downsample_at = {at}: a stage samples down once; name each j once")
        for j in sections.get("stages", {}):
            if int(j) >= stages:
                faults.append(f"stages.{j}: the network has {stages} stages, j from 0 to {stages - 1}")
        if cache and isinstance(cache.keep, list) and any(j > stages for j in cache.keep):
            faults.append(f"cache.keep = {cache.keep}: the network has x_1 to x_{stages}")
    if augment and network and augment.cut_at >= network.stages:
        faults.append(f"augment.cut_at = {augment.cut_at}: expected less than network.stages = {network.stages}")
    if augment and augment.crop and augment.padding >= augment.crop:
        faults.append(f"augment.padding = {augment.padding}: expected less than augment.crop = {augment.crop}")
    if augment and data and augment.crop > data.canvas > 0:
        faults.append(f"augment.crop = {augment.crop}: expected at most data.canvas = {data.canvas}")
    if augment and augment.crop and augment.cutout > augment.crop:
        faults.append(f"augment.cutout = {augment.cutout}: expected at most augment.crop = {augment.crop}")
    if augment:
        faults += _unused(augment)
        faults += _faults_of_scale(augment)
    if augment and augment.policy == "views" and augment.views > 1 and not augment.is_random:
        faults.append(
            'augment.views: without crop, padding, flip, scale or cutout all views are equal; set policy = "none"'
        )
    is_moved = augment and (augment.crop or augment.padding or augment.flip)
    if augment and augment.policy == "canvas" and not (is_moved or augment.scale):
        faults.append('augment.policy: without crop, padding or flip a canvas has one window; set policy = "none"')
    if budget:
        for name in ("device", "host", "disk"):
            try:
                budget_bytes(getattr(budget, name))
            except ValueError:
                faults.append(f"budget.{name} = {shown(getattr(budget, name))}: {EXPECTED_BYTES}")
    return [*faults, *_faults_of_batches(sections), *_faults_of_start(sections), *_faults_of_compression(sections)]


def _faults_of_batches(sections: Mapping[str, Any]) -> list[str]:
    """What is wrong with the parts that batches are to be taken in."""
    network, train = sections.get("network"), sections.get("train")
    if not network or not train or not (group := network.bn_group):
        return []
    if group % MIN_BATCH:
        return [f"network.bn_group = {group}: expected a multiple of {MIN_BATCH}, or 0 for the whole batch"]
    sizes = {"train.batch_size": train.batch_size}
    for j, own in sections.get("stages", {}).items():
        if "batch_size" in own.train:
            sizes[f"stages.{j}.train.batch_size"] = own.train["batch_size"]
    for name in ("baseline", "probe"):
        if (section := sections.get(name)) and "batch_size" in section.train:
            sizes[f"{name}.train.batch_size"] = section.train["batch_size"]
    return [
        f"{name} = {size}: expected a multiple of network.bn_group = {group}"
        for name, size in sizes.items()
        if size % group
    ]


def _faults_of_start(sections: Mapping[str, Any]) -> list[str]:
    """Why a stage that is to start as the identity, with the head before it, cannot; and what has none before it."""
    faults = [
        f"{name}.train.start: what is trained there always starts at random; leave it out"
        for name in ("baseline", "probe")
        if (section := sections.get(name)) and "start" in section.train
    ]
    network, head, train, stages = (sections.get(name) for name in ("network", "head", "train", "stages"))
    compress = sections.get("compress")
    if not network or not head or not train or not compress:
        return faults
    own = {int(j): overrides for j, overrides in (stages or {}).items()}
    heads = [msgspec.structs.replace(head, **own[j].head) if j in own else head for j in range(network.stages)]
    for j in range(1, network.stages):
        start = own[j].train.get("start", train.start) if j in own else train.start
        reasons = {
            "network.batch_norm is true, and a block that normalises is no identity": network.batch_norm,
            "network.residual is true, and a block that adds its input is none": network.residual,
            f"stage {j} samples down (network.downsample_at), and P is no identity": j in network.downsample_at,
            f"filters of stage {j - 1} are cut off (compress.keep)": _share(own, compress, j - 1) < 1,
            f"its head is another than that of stage {j - 1} ([head])": heads[j] != heads[j - 1],
        }
        why = next((reason for reason, holds in reasons.items() if holds), None)
        if start == "identity" and why:
            faults.append(f'stages.{j}.train.start = "identity": {why}; set stages.{j}.train.start = "random"')
    return faults


def _faults_of_compression(sections: Mapping[str, Any]) -> list[str]:
    """What cannot be compressed: blocks with skip connections, whose shapes are to stay equal, stages that are to keep
    their best point, which is of another network, and those with a similarity loss, which is of all filters."""
    names = ("network", "head", "train", "compress", "stages")
    network, head, train, compress, stages = (sections.get(name) for name in names)
    if not network or not head or not train or not compress:
        return []
    own = {int(j): overrides for j, overrides in (stages or {}).items()}
    cut = [j for j in range(network.stages) if _share(own, compress, j) < 1]
    if cut and network.residual:
        return ["network.residual: filters of blocks with skip connections are not cut off; set compress.keep = 1"]
    faults = [
        f"stages.{j}.head.similarity = {share:g}: its filters are cut off after the training (compress.keep), and the "
        f"similarity loss compares all of them; set stages.{j}.head.similarity = 0 or stages.{j}.compress.keep = 1"
        for j in cut
        if (share := own[j].head.get("similarity", head.similarity) if j in own else head.similarity) > 0
    ]
    return faults + [
        f'stages.{j}.train.keep = "best": its filters are cut off after the training (compress.keep), and what is left '
        f'is no point of that; set stages.{j}.train.keep = "last" or stages.{j}.compress.keep = 1'
        for j in cut
        if (own[j].train.get("keep", train.keep) if j in own else train.keep) == "best"
    ]


def _share(own: Mapping[int, StageOverrides], compress: Compress, j: int) -> float:
    """`compress.keep` of stage j."""
    share: float = own[j].compress.get("keep", compress.keep) if j in own else compress.keep
    return share
