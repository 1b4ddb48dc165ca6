from tests.faults.lab import Lab
from tests.faults.tiny import differences, digest


def test_a_second_run_leaves_the_same_digest(lab: Lab) -> None:
    run = lab.bench.fresh()
    assert lab.bench.run(run).code == 0
    assert differences(lab.truth, digest(run)) == []


def test_a_changed_byte_a_missing_file_and_litter_are_differences(lab: Lab) -> None:
    run = lab.bench.copy(lab.whole)
    block, head, record = (next(run.glob(f"stages/1-*/{name}")) for name in ("block*", "head*", "stage.json"))
    block.write_bytes(block.read_bytes()[:-1] + b"\x01")
    head.unlink()
    record.write_bytes(record.read_bytes().replace(b'"test_accuracy": ', b'"test_accuracy": 1'))
    (run / ".file.new").write_bytes(b"")
    (run / "folder").mkdir()
    found = differences(lab.truth, digest(run))
    folder = block.parent.relative_to(run)
    assert found == [
        f"{folder / head.name} is missing",
        ".file.new is left over",
        "folder is left over",
        f"{folder / block.name} differs",
        f"{folder / record.name} differs",
    ]


def test_times_in_records_are_no_difference(lab: Lab) -> None:
    run = lab.bench.copy(lab.whole)
    record = next(run.glob("stages/1-*/stage.json"))
    record.write_bytes(record.read_bytes().replace(b'"seconds": ', b'"seconds": 1'))
    assert differences(lab.truth, digest(run)) == []
