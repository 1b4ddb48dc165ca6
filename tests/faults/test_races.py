import pytest

from tests.faults.conftest import told
from tests.faults.lab import Lab
from tests.faults.races import races


@pytest.mark.parametrize("processes", [2, 8])
def test_of_several_processes_one_works_and_the_others_name_it(lab: Lab, processes: int) -> None:
    assert not told(races(lab, processes=(processes,), stops=3).run(lab))
