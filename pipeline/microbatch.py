"""Micro-batches: the parts in which a batch is taken through a stage. The machine's business, not the method's."""

from math import isqrt

from pipeline.config import MIN_BATCH, Config, NetworkSection
from pipeline.errors import ConfigError


def micro_batches(config: Config, j: int) -> list[int]:
    """Sizes that a batch of stage j may be taken in, the largest, the whole batch, first.

    Each divides the batch and is of whole groups of `network.bn_group`; without batch norm of whole eights, since fewer
    samples round differently on a CPU. Batch norm over the whole batch leaves no other size.
    """
    return parts_of(config.for_stage(j).train.batch_size, config.network)


def parts_of(batch: int, network: NetworkSection) -> list[int]:
    """The same of any batch that is taken through blocks of a network."""
    unit = (network.bn_group or batch) if network.batch_norm else MIN_BATCH
    divisors = {size for i in range(1, isqrt(batch) + 1) if batch % i == 0 for size in (i, batch // i)}
    return sorted((size for size in divisors if size == batch or size % unit == 0), reverse=True)


def check_micro_batch(config: Config, j: int) -> None:
    """Raise ConfigError where `machine.micro_batch` is no size for stage j."""
    check_parts(config, f"stage {j}", micro_batches(config, j))


def check_parts(config: Config, what: str, allowed: list[int]) -> None:
    """Raise ConfigError where `machine.micro_batch` is not among the sizes that are allowed."""
    asked = config.machine.micro_batch
    if asked and asked not in allowed:
        hint = "leave machine.micro_batch out, which takes the largest that fits, or set it to one of these"
        if len(allowed) == 1 and config.network.batch_norm:
            hint += "; or set network.bn_group, over which batch norm then takes its statistics, which trains anew"
        raise ConfigError(
            f"machine.micro_batch = {asked}: {what} takes batches of {allowed[0]} in parts of "
            f"{', '.join(map(str, allowed))}\nnext: {hint}"
        )
