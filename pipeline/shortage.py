"""Whether stores that no plan has chosen fit on the disk with all else in the folder, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.footprint import Known
from pipeline.outline import Outline
from pipeline.workload import Budgets, reserved_bytes


@dataclass(frozen=True)
class Shortage:
    """Of the disk."""

    needs_bytes: int
    """Of disk, for the stores that are there together and all else in the folder; at most, where compression may leave
    less of some."""
    sure_bytes: int
    """The same without what compression may leave of stores that are not written yet, and without rounding up to
    blocks."""
    disk_bytes: int
    """The budget, for both."""

    @property
    def is_sure(self) -> bool:
        """Whether nothing can make it fit, so that a run refuses it."""
        return self.sure_bytes > self.disk_bytes

    @property
    def is_bound(self) -> bool:
        """Whether less may be needed."""
        return self.sure_bytes < self.needs_bytes


def shortage(outline: Outline, budgets: Budgets, known: Mapping[int, Known], *, frees: bool) -> Shortage | None:
    """Of x_0 and some x_i, by their index in ascending order; where `frees`, each goes once the next is written. None
    where all fits."""
    most = [reserved_bytes(outline, budgets, index, one) for index, one in known.items()]
    least = [0 if one.stays or one.basis == "bound" else one.reserved_bytes for one in known.values()]
    needs, sure = (_together(sizes, frees=frees) + budgets.beside for sizes in (most, least))
    return Shortage(needs, sure, budgets.disk) if needs > budgets.disk else None


def _together(sizes: Sequence[int], *, frees: bool) -> int:
    """Of stores that are there at a time, the images first."""
    images, *kept = sizes
    neighbours = (sum(kept[m : m + 2]) for m in range(len(kept)))
    return images + (max(neighbours, default=0) if frees else sum(kept))
