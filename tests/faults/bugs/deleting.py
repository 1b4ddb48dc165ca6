"""What is deleted is needed yet, or is half there."""

from tests.faults.bugs.bug import Bug

POWER = "tests/faults/test_power.py"

DELETING = (
    Bug(
        "a store's manifest is the last of it to be deleted",
        (
            (
                "cache/removal.py",
                "    (path / first).unlink(missing_ok=True)\n    sync(path)\n    shutil.rmtree(path)\n",
                "    for other in path.iterdir():\n"
                "        if other.is_dir():\n"
                "            shutil.rmtree(other)\n"
                "    (path / first).unlink(missing_ok=True)\n"
                "    sync(path)\n"
                "    shutil.rmtree(path)\n",
            ),
        ),
        (
            "tests/test_removal.py::test_the_manifest_is_durably_gone_before_anything_else_is",
            f"{POWER}::test_calls_of_a_command_come_in_the_order_of_the_protocol_and_are_durable[gc]",
        ),
    ),
    Bug(
        "a store's manifest is not durably gone before its chunks are",
        (("cache/removal.py", "    sync(path)\n    shutil.rmtree(path)\n", "    shutil.rmtree(path)\n"),),
        (
            "tests/test_removal.py::test_the_manifest_is_durably_gone_before_anything_else_is",
            f"{POWER}::test_calls_of_a_command_come_in_the_order_of_the_protocol_and_are_durable[gc]",
        ),
    ),
    Bug(
        "a store that is not needed goes before the next is verified",
        (
            ("pipeline/needed.py", "        verify(run, index + 1)\n        nbytes", "        nbytes"),
            (
                "pipeline/needed.py",
                "            remove_store(store)\n",
                "            remove_store(store)\n        verify(run, index + 1)\n",
            ),
        ),
        ("tests/test_needed.py::test_a_damaged_successor_keeps_the_store_before_it",),
    ),
    Bug(
        "gc deletes the stores of a branch before its record",
        (("pipeline/gc.py", '        (path / "stage.json").unlink(missing_ok=True)\n        sync(path)\n', ""),),
        ("tests/test_gc.py::test_a_deletion_that_is_interrupted_leaves_nothing_that_counts_as_whole",),
    ),
    Bug(
        "the record of a branch is not durably gone before its stores are",
        (
            (
                "pipeline/gc.py",
                '        (path / "stage.json").unlink(missing_ok=True)\n        sync(path)\n',
                '        (path / "stage.json").unlink(missing_ok=True)\n',
            ),
        ),
        ("tests/test_gc.py::test_the_record_of_a_branch_is_durably_gone_before_any_store_of_it_is",),
    ),
)
