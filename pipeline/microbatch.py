"""Micro-batches: the parts in which a batch is taken through a stage. The machine's business, not the method's."""

from math import isqrt

from pipeline.config import MIN_BATCH, Config, HeadSection, NetworkSection
from pipeline.errors import ConfigError


def micro_batches(config: Config, j: int) -> list[int]:
    """Sizes that a batch of stage j may be taken in, the largest, the whole batch, first.

    Each divides the batch and is of whole groups of `network.bn_group`; without batch norm and similarity loss of whole
    eights, since fewer samples round differently on a CPU. Groups of the whole batch leave no other size.
    """
    own = config.for_stage(j)
    return parts_of(own.train.batch_size, own.network, own.head)


def parts_of(batch: int, network: NetworkSection, head: HeadSection) -> list[int]:
    """The same of any batch that is taken through blocks of a network and a head."""
    unit = (network.bn_group or batch) if is_grouped(network, head) else MIN_BATCH
    divisors = {size for i in range(1, isqrt(batch) + 1) if batch % i == 0 for size in (i, batch // i)}
    return sorted((size for size in divisors if size == batch or size % unit == 0), reverse=True)


def is_grouped(network: NetworkSection, head: HeadSection) -> bool:
    """Whether what is trained of a sample depends on what else is in its group of `network.bn_group` samples."""
    return network.batch_norm or head.similarity > 0


def check_micro_batch(config: Config, j: int) -> None:
    """Raise ConfigError where `machine.micro_batch` is no size for stage j."""
    check_parts(config, f"stage {j}", micro_batches(config, j))


def check_parts(config: Config, what: str, allowed: list[int]) -> None:
    """Raise ConfigError where `machine.micro_batch` is not among the sizes that are allowed."""
    asked = config.machine.micro_batch
    if asked and asked not in allowed:
        hint = "leave machine.micro_batch out, which takes the largest that fits, or set it to one of these"
        if len(allowed) == 1 and is_grouped(config.network, config.head):
            hint += "; or set network.bn_group, over which batch norm then takes its statistics, which trains anew"
        raise ConfigError(
            f"machine.micro_batch = {asked}: {what} takes batches of {allowed[0]} in parts of "
            f"{', '.join(map(str, allowed))}\nnext: {hint}"
        )
