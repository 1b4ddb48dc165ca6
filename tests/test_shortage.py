"""Whether stores fit on a disk, and how sure that is."""

from pathlib import Path

import pytest

from pipeline.footprint import Known
from pipeline.outline import Outline, read_outline
from pipeline.shortage import Shortage, shortage
from pipeline.workload import Budgets
from tests.configs import loaded
from tests.test_plan import SETTINGS


@pytest.fixture
def outline(tmp_path: Path) -> Outline:
    return read_outline(tmp_path, loaded(tmp_path, *SETTINGS))


def raw(nbytes: int) -> Known:
    return Known(nbytes, "raw", "none", 1.0)


IMAGES = Known(100, "stored", "none", 1.0)
BOUND = Known(40, "bound", "zstd", 1.0)


@pytest.mark.parametrize(("frees", "needs"), [(False, 100 + 10 + 20 + 30 + 5), (True, 100 + 20 + 30 + 5)])
def test_stores_that_are_there_together_and_all_else_are_held_against_the_disk(
    outline: Outline, frees: bool, needs: int
) -> None:
    known = {0: IMAGES, 1: raw(10), 2: raw(20), 3: raw(30)}
    assert shortage(outline, Budgets(disk=needs, host=0, beside=5), known, frees=frees) is None
    found = shortage(outline, Budgets(disk=needs - 1, host=0, beside=5), known, frees=frees)
    assert found == Shortage(needs, needs, needs - 1)
    assert (found.is_sure, found.is_bound) == (True, False)


def test_what_compression_may_leave_of_a_store_is_not_sure(outline: Outline) -> None:
    known = {0: IMAGES, 1: BOUND, 2: raw(20)}
    found = [shortage(outline, Budgets(disk=disk, host=0), known, frees=False) for disk in (160, 159, 120, 119)]
    assert [one and (one.is_sure, one.is_bound) for one in found] == [None, (False, True), (False, True), (True, True)]


def test_a_store_that_stays_whatever_is_planned_is_counted_beside(outline: Outline) -> None:
    stays = Known(40, "stored", "none", 1.0, stays=True)
    assert shortage(outline, Budgets(disk=100, host=0), {0: IMAGES, 1: stays}, frees=False) is None


def test_whole_blocks_are_needed_and_not_sure(outline: Outline) -> None:
    found = shortage(outline, Budgets(disk=120, host=0, block=4096), {0: IMAGES, 1: raw(20)}, frees=False)
    assert found is not None
    assert (found.sure_bytes, found.needs_bytes) == (120, 120 + 4096 * outline.files(1))
