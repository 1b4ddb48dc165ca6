from pathlib import Path

import pytest

from tests.faults.campaign import Report
from tests.faults.conftest import told
from tests.faults.corruption import corruption, damages, judge, read_store, subjects
from tests.faults.damage import Damage, strangers, swaps
from tests.faults.lab import Lab
from tests.faults.repairs import repairs

STORE = "x_1/uint8.train"


@pytest.fixture(scope="module")
def reports(lab: Lab, other: Path) -> list[Report]:
    """Of some damages to each store."""
    return list(corruption(lab.whole, other, count=300, only="x_"))


def test_no_damage_to_a_store_is_read_as_numbers(reports: list[Report]) -> None:
    assert len(reports) == 9
    for report in reports:
        assert not [failure for failure in report.failures if not failure.what.startswith("unnamed")], told(report)


def test_the_error_of_any_damage_to_a_store_names_the_file(reports: list[Report]) -> None:
    assert not any(map(told, reports))


def test_no_chunk_passes_for_another_or_for_that_of_another_run(lab: Lab, other: Path) -> None:
    subject = next(s for s in subjects(lab.whole, other) if STORE in s.name)
    truth = read_store(subject.folder)
    chunks = {path: data for path, data in subject.files.items() if "/c." in path}
    cases = [*swaps(chunks), *strangers(chunks, subject.others)]
    assert {judge(subject, truth, case)[0] for case in cases} == {"named"}


def test_no_damage_to_records_and_weights_is_read_as_numbers(lab: Lab, other: Path) -> None:
    (report,) = corruption(lab.whole, other, count=300, only="records")
    assert not told(report)


def test_damage_that_is_not_noticed_is_silent_or_harmless(lab: Lab, other: Path) -> None:
    subject = next(s for s in subjects(lab.whole, other) if STORE in s.name)
    truth = read_store(subject.folder)
    nothing = Damage("nothing", {"zarr.json": subject.files["zarr.json"]})
    assert judge(subject, truth, nothing)[0] == "harmless"
    assert judge(subject, {**truth, "y": b""}, nothing) == ("silent", "no error, and y is another")


def test_damages_cover_every_byte_and_length_and_leave_the_files_as_they_were(lab: Lab, other: Path) -> None:
    subject = next(s for s in subjects(lab.whole, other) if STORE in s.name)
    size = sum(map(len, subject.files.values()))
    cases = list(damages(subject, 0))
    assert sum("flipped" in case.name for case in cases) == sum("cut to" in case.name for case in cases) == size
    assert sum("another run" in case.name for case in cases) >= 10
    assert sum("exchanged" in case.name for case in cases) >= 45
    for case in cases[:: len(cases) // 50]:
        judge(subject, {}, case)
    assert {path: (subject.folder / path).read_bytes() for path in subject.files} == subject.files


def test_every_damage_to_a_store_is_found_named_and_repaired_to_the_byte(lab: Lab, other: Path) -> None:
    assert not told(repairs(lab, other, count=20).run(lab))
