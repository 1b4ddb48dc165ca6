"""What is deleted is needed yet, or is half there."""

from tests.faults.bugs.bug import Bug

REMOVAL = "tests/test_removal.py"
POWER = "tests/faults/test_power.py"
SWEEP = "tests/faults/test_sweep.py"
NOT_DURABLE = "test_a_name_that_was_not_made_durable_is_by_the_command_that_goes_on"

DELETING = (
    Bug(
        "what is deleted keeps its place until the last of it is gone",
        (("cache/removal.py", "        os.rename(path, aside)\n", "        aside = path\n"),),
        (
            f"{REMOVAL}::test_a_folder_is_durably_gone_from_its_place_before_anything_in_it_is",
            f"{SWEEP}::test_a_kill_anywhere_in_gc_or_repair_leaves_a_folder_that_is_sound_and_goes_on",
            f"{POWER}::test_calls_of_a_command_come_in_the_order_of_the_protocol_and_are_durable[gc]",
        ),
    ),
    Bug(
        "a folder is not durably gone from its place before its files are deleted",
        (
            (
                "cache/removal.py",
                "        os.rename(path, aside)\n    sync(path.parent)  #",
                "        os.rename(path, aside)\n    #",
            ),
        ),
        (
            f"{REMOVAL}::test_a_folder_is_durably_gone_from_its_place_before_anything_in_it_is",
            f"{POWER}::test_calls_of_a_command_come_in_the_order_of_the_protocol_and_are_durable[gc]",
        ),
    ),
    Bug(
        "a folder that another command renamed is not durably gone before its files are deleted",
        (
            (
                "cache/removal.py",
                "    sync(path.parent)  # also of",
                "    sync(path.parent) if aside != path else None  # of",
            ),
        ),
        (
            f"{REMOVAL}::test_what_another_command_renamed_is_durably_gone_before_anything_in_it_is",
            f"{SWEEP}::{NOT_DURABLE}[gc]",
        ),
    ),
    Bug(
        "what is read instead of a store that is not needed may be lost",
        (
            (
                "pipeline/needed.py",
                "            sync(store)  # who committed it",
                "            # who committed it",
            ),
        ),
        ("tests/test_needed.py::test_what_is_read_instead_is_durable_before_a_store_goes",),
    ),
    Bug(
        "what an interrupted removal left is in the way of the next",
        (("cache/removal.py", "        _delete(aside)  # of an earlier folder in the same place\n", ""),),
        (f"{REMOVAL}::test_what_an_interrupted_removal_left_is_in_nobodys_way",),
    ),
    Bug(
        "a store that is not needed goes before the next is verified",
        (
            ("pipeline/needed.py", "        read_back_successor(run, index)\n        nbytes", "        nbytes"),
            (
                "pipeline/needed.py",
                "            remove_folder(store)\n",
                "            remove_folder(store)\n        read_back_successor(run, index)\n",
            ),
        ),
        ("tests/test_needed.py::test_a_damaged_successor_keeps_the_store_before_it",),
    ),
    Bug(
        "gc takes what a store shares with another policy for its own",
        (("pipeline/needed.py", " and (store == own or not others)]", "]"),),
        ("tests/test_gc.py::test_what_policies_share_is_left_to_the_one_that_still_needs_it",),
    ),
    Bug(
        "what nothing needs is deleted through a link",
        (("pipeline/needed.py", "        run.check_stores_unlinked(index)\n", ""),),
        ("tests/test_needed.py::test_behind_a_link_nothing_is_deleted",),
    ),
)
