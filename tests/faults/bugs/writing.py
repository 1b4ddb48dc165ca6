"""What is written is not safe when it counts as safe."""

from tests.faults.bugs.bug import Bug

POWER = "tests/faults/test_power.py"
SWEEP = "tests/faults/test_sweep.py"
RACES = "tests/faults/test_races.py"
FILES = "tests/test_files.py"
JOURNAL = "tests/test_journal.py"
LEFTOVERS = "tests/test_leftovers.py"

WRITING = (
    Bug(
        "files are not synced",
        (
            (
                "cache/files.py",
                "        os.fsync(descriptor)\n    except OSError as error:\n        error.filename = str(path)  #",
                "    except OSError as error:\n        error.filename = str(path)  #",
            ),
        ),
        (
            f"{FILES}::test_file_is_durable_before_its_name_and_its_name_before_the_return",
            f"{FILES}::test_commit_makes_every_file_and_folder_durable_before_the_manifest",
            f"{POWER}::test_calls_come_in_the_order_of_the_protocol",
            f"{POWER}::test_a_power_cut_costs_time_and_nothing_else",
        ),
    ),
    Bug(
        "the folder of a replaced file is not synced",
        (
            (
                "cache/files.py",
                "        raise\n    sync(path.parent)\n",
                "        raise\n",
            ),
        ),
        (
            f"{FILES}::test_file_is_durable_before_its_name_and_its_name_before_the_return",
            f"{POWER}::test_a_run_that_ended_is_durable",
        ),
    ),
    Bug(
        "a file is renamed before it is synced",
        (
            (
                "cache/files.py",
                "    write_synced(beside, *parts)\n    try:\n        os.replace(beside, path)\n",
                '    beside.write_bytes(b"".join(parts))\n'
                "    try:\n        os.replace(beside, path)\n        sync(path)\n",
            ),
        ),
        (
            f"{FILES}::test_file_is_durable_before_its_name_and_its_name_before_the_return",
            f"{POWER}::test_calls_come_in_the_order_of_the_protocol",
        ),
    ),
    Bug(
        "a file is written in place",
        (
            (
                "cache/files.py",
                "    write_synced(beside, *parts)\n    try:\n        os.replace(beside, path)\n",
                "    write_synced(path, *parts)\n    try:\n        pass\n",
            ),
        ),
        (
            f"{FILES}::test_old_file_stays_whole_when_the_new_one_cannot_be_written",
            f"{SWEEP}::test_a_kill_at_any_call_costs_time_and_nothing_else[torn-False-10]",
        ),
    ),
    Bug(
        "the folders of a store are not synced before its manifest",
        (
            (
                "cache/writer.py",
                "        for folder in (*(self.path / name for name in arrays), self.path):\n"
                "            sync(folder)\n",
                "",
            ),
        ),
        (
            f"{FILES}::test_commit_makes_every_file_and_folder_durable_before_the_manifest",
            f"{POWER}::test_calls_come_in_the_order_of_the_protocol",
        ),
    ),
    Bug(
        "the manifest comes before the small arrays are durable",
        (
            (
                "cache/writer.py",
                "        for folder in (*(self.path / name for name in arrays), self.path):\n",
                "        replace_file(self.path / MANIFEST, "
                "encode_manifest(self._begun.fingerprint, metadata, arrays))\n"
                "        for folder in (*(self.path / name for name in arrays), self.path):\n",
            ),
        ),
        (
            f"{FILES}::test_commit_makes_every_file_and_folder_durable_before_the_manifest",
            f"{POWER}::test_calls_come_in_the_order_of_the_protocol",
        ),
    ),
    Bug(
        "chunks are journaled before their bytes are synced",
        (
            (
                "cache/writer.py",
                "        write_synced(self.path / self._begun.chunk_name(index), *parts)\n",
                '        path = self.path / self._begun.chunk_name(index)\n        path.write_bytes(b"".join(parts))\n',
            ),
            (
                "cache/writer.py",
                "        if is_full:\n            self._record_batch()\n",
                "        if is_full:\n            self._record_batch()\n        sync(path)\n",
            ),
        ),
        (f"{LEFTOVERS}::test_a_chunk_is_journaled_once_its_bytes_are_durable",),
    ),
    Bug(
        "chunks are journaled before their names are synced",
        (("cache/journal.py", "            sync(self._chunks)\n", ""),),
        (f"{JOURNAL}::test_a_chunks_name_is_durable_before_it_is_journaled",),
    ),
    Bug(
        "the journal goes before the manifest is durable",
        (("cache/journal.py", "        sync(store)\n", ""),),
        (
            f"{JOURNAL}::test_a_journal_goes_once_the_manifest_beside_it_is_durable",
            f"{SWEEP}::test_a_name_that_was_not_made_durable_is_by_the_command_that_goes_on[run]",
        ),
    ),
    Bug(
        "a journal goes on after a sync of it failed",
        (("cache/journal.py", "            self._failed = True\n", ""),),
        (f"{JOURNAL}::test_after_a_failed_fsync_nothing_more_is_added",),
    ),
    Bug(
        "two processes may write",
        (("pipeline/lock.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"),),
        (
            "tests/test_lock.py::test_the_second_is_refused_with_process_host_and_what_the_first_does_now",
            f"{RACES}::test_of_several_processes_one_works_and_the_others_name_it",
        ),
    ),
    Bug(
        "a full disk does not say where",
        (("cache/files.py", "        error.filename = str(path)  # a full disk does not say which\n", ""),),
        (
            f"{FILES}::test_a_file_that_cannot_be_made_durable_is_removed_and_named",
            f"{SWEEP}::test_where_writing_fails_the_path_and_the_next_action_are_named",
        ),
    ),
    Bug(
        "a disk that failed is asked once more",
        (("cache/writer.py", " and not isinstance(error, OSError):", ":"),),
        ("tests/test_writer.py::test_a_disk_that_failed_is_asked_nothing_more",),
    ),
)
