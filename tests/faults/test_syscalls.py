from pipeline.lock import HOLDER
from tests.faults.lab import Lab
from tests.faults.syscalls import Fault


def test_the_nth_call_is_the_one_that_fails(lab: Lab) -> None:
    number = next(n for n, event in enumerate(lab.events) if event.op == "rename" and HOLDER not in event.path)
    outcome, events = lab.bench.recorded(lab.bench.fresh(), faults=[Fault("io", number)])
    assert outcome.code
    assert [event.failed for event in events[: number + 1]] == [event.failed for event in lab.events[:number]] + [True]
    assert events[number].op == "rename"


def test_a_torn_write_leaves_its_first_half(lab: Lab) -> None:
    numbers = [n for n, e in enumerate(lab.events) if e.op == "write" and e.path.endswith(".ingest.json.new")]
    run = lab.bench.fresh()
    assert lab.bench.run(run, faults=[Fault("torn", numbers[0])]).code == -9
    whole, torn = lab.whole / "x_0/ingest.json", run / "x_0.partial/.ingest.json.new"
    assert torn.read_bytes() == whole.read_bytes()[: whole.stat().st_size // 2]
