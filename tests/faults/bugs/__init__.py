"""The bugs that are planted, by what each of them forgets."""

from tests.faults.bugs.bug import Bug
from tests.faults.bugs.deleting import DELETING
from tests.faults.bugs.reading import READING
from tests.faults.bugs.results import RESULTS
from tests.faults.bugs.stages import STAGES
from tests.faults.bugs.writing import WRITING

BUGS = (*READING, *WRITING, *DELETING, *STAGES, *RESULTS)

__all__ = ["BUGS", "Bug"]
