"""The bugs that are planted, by what each of them forgets."""

from dataclasses import dataclass

Edit = tuple[str, str, str]
"""File, text in it, and what takes its place."""


@dataclass(frozen=True)
class Bug:
    """A bug."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """Each must fail on it."""


STORE, FILES, ORDER, KILLS = "tests/test_store.py", "tests/test_files.py", "tests/test_order.py", "tests/faults"

BUGS = (
    Bug(
        "a checksum is not compared with the manifest",
        (
            (
                "cache/verified.py",
                "if self._crc32c != self._committed.crc32c or tail.tobytes() != trailer(self._crc32c):",
                "if tail.tobytes() != trailer(self._crc32c):",
            ),
        ),
        (f"{STORE}::test_swapped_chunks_of_equal_length_are_both_caught",),
    ),
    Bug(
        "the checksum of a chunk is taken over its trailer too",
        (
            (
                "cache/writer.py",
                "return ChunkRecord(length=len(body) + CHECKSUM_BYTES, crc32c=crc)",
                "return ChunkRecord(length=len(body) + CHECKSUM_BYTES, crc32c=checksum([body, trailer(crc)]))",
            ),
            (
                "cache/verified.py",
                "if self._crc32c != self._committed.crc32c or",
                "if checksum([tail], self._crc32c) != self._committed.crc32c or",
            ),
        ),
        (f"{STORE}::test_swapped_chunks_of_equal_length_are_both_caught",),
    ),
    Bug(
        "the trailer is not compared",
        (("cache/verified.py", " or tail.tobytes() != trailer(self._crc32c):", ":"),),
        (f"{STORE}::test_flipped_bit_anywhere_in_a_chunk_is_caught",),
    ),
    Bug(
        "a longer chunk is accepted",
        (
            (
                "cache/verified.py",
                "if stored.length != committed.length:",
                "if stored.length < committed.length:",
            ),
        ),
        (f"{STORE}::test_chunk_cut_anywhere_or_grown_is_caught",),
    ),
    Bug(
        "a missing chunk is zeros",
        (
            (
                "cache/store.py",
                '        index, key = self._chunk_of_x(view, number)\n        if self.codec == "none":',
                "        index, key = self._chunk_of_x(view, number)\n"
                '        if not (self.path / "x" / key).exists():\n'
                "            dest[...] = 0\n            return\n"
                '        if self.codec == "none":',
            ),
        ),
        (f"{STORE}::test_missing_chunk_is_caught_and_never_read_as_zeros",),
    ),
    Bug(
        "files are not synced",
        (("cache/files.py", "        os.fsync(descriptor)\n    except", "    except"),),
        (
            f"{FILES}::test_file_is_durable_before_its_name_and_its_name_before_the_return",
            f"{KILLS}/test_power.py::test_calls_come_in_the_order_of_the_protocol",
            f"{KILLS}/test_power.py::test_a_power_cut_costs_time_and_nothing_else",
        ),
    ),
    Bug(
        "the folder of a replaced file is not synced",
        (
            (
                "cache/files.py",
                "    os.replace(beside, path)\n    sync(path.parent)\n",
                "    os.replace(beside, path)\n",
            ),
        ),
        (f"{KILLS}/test_power.py::test_calls_come_in_the_order_of_the_protocol",),
    ),
    Bug(
        "a file is renamed before it is synced",
        (
            (
                "cache/files.py",
                "    write_synced(beside, data)\n    os.replace(beside, path)\n",
                "    beside.write_bytes(data)\n    os.replace(beside, path)\n    sync(path)\n",
            ),
        ),
        (
            f"{KILLS}/test_power.py::test_calls_come_in_the_order_of_the_protocol",
            f"{KILLS}/test_power.py::test_a_power_cut_costs_time_and_nothing_else",
        ),
    ),
    Bug(
        "a file is written in place",
        (
            (
                "cache/files.py",
                "    write_synced(beside, data)\n    os.replace(beside, path)\n",
                "    write_synced(path, data)\n",
            ),
        ),
        (f"{KILLS}/test_sweep.py::test_a_kill_around_a_rename_costs_time_and_nothing_else",),
    ),
    Bug(
        "the folders of a store are not synced before its manifest",
        (("cache/writer.py", '            sync(folder / "zarr.json")\n            sync(folder)\n', ""),),
        (f"{KILLS}/test_power.py::test_calls_come_in_the_order_of_the_protocol",),
    ),
    Bug(
        "the manifest comes before the small arrays are durable",
        (
            (
                "cache/writer.py",
                "        for folder in (*(self.path / name for name in arrays), self.path):",
                "        replace_file(self.path / MANIFEST, msgspec.json.encode(Manifest(FORMAT, arrays)))\n"
                "        for folder in (*(self.path / name for name in arrays), self.path):",
            ),
        ),
        (f"{KILLS}/test_power.py::test_calls_come_in_the_order_of_the_protocol",),
    ),
    Bug(
        "all epochs have the order of the first",
        (("pipeline/order.py", "Purpose.RUN_ORDER, stage, epoch)", "Purpose.RUN_ORDER, stage, 0)"),),
        (f"{ORDER}::test_seed_stage_and_epoch_each_change_the_order_of_runs_and_within_windows",),
    ),
    Bug(
        "all epochs mix the samples of a window alike",
        (("pipeline/order.py", "Purpose.SAMPLE_ORDER, stage, epoch, number)", "Purpose.SAMPLE_ORDER, stage, number)"),),
        (f"{ORDER}::test_seed_stage_and_epoch_each_change_the_order_of_runs_and_within_windows",),
    ),
    Bug(
        "all epochs see one view",
        (("pipeline/order.py", "np.arange(len(order)))) + epoch) % views", "np.arange(len(order))))) % views"),),
        (f"{ORDER}::test_after_as_many_epochs_as_views_each_view_of_each_sample_was_seen_once",),
    ),
    Bug(
        "a checkpoint forgets the momentum",
        (
            (
                "pipeline/learner.py",
                "return {**module_tensors(block=self.block, head=self.head), **momentum}",
                "return module_tensors(block=self.block, head=self.head)",
            ),
        ),
        (
            "tests/test_resume.py::test_momentum_is_part_of_the_checkpoint",
            f"{KILLS}/test_sweep.py::test_a_kill_around_a_rename_costs_time_and_nothing_else",
        ),
    ),
    Bug(
        "a checkpoint forgets the statistics of batch norm",
        (
            (
                "pipeline/learner.py",
                "if name not in momentum}",
                'if name not in momentum and "running" not in name}',
            ),
            ("pipeline/weights.py", ".load_state_dict(tensors)", ".load_state_dict(tensors, strict=False)"),
        ),
        (f"{KILLS}/test_sweep.py::test_a_kill_around_a_rename_costs_time_and_nothing_else",),
    ),
    Bug(
        "momentum is forgotten where a stage goes on",
        (("pipeline/training.py", " % train.lr_drop_every == 0 and not progress.consumed:", " % 1 == 0:"),),
        (
            "tests/test_resume.py::test_a_stage_interrupted_within_an_epoch_goes_on_at_its_last_checkpoint_and_ends_in_the_same_bytes",
        ),
    ),
    Bug(
        "the metrics come behind the checkpoint that counts them",
        (
            ("pipeline/training.py", "        _save_checkpoint(folder, learner, len(records))\n", ""),
            (
                "pipeline/training.py",
                "        replace_file(folder.metrics, ",
                "        _save_checkpoint(folder, learner, len(records))\n        replace_file(folder.metrics, ",
            ),
        ),
        (f"{KILLS}/test_sweep.py::test_a_kill_around_a_rename_costs_time_and_nothing_else",),
    ),
    Bug(
        "the record of a stage comes before its weights",
        (
            ("pipeline/training.py", "    save_tensors(folder.block, module_tensors(block=learner.block))\n", ""),
            (
                "pipeline/training.py",
                "    folder.checkpoint.unlink(missing_ok=True)\n",
                "    save_tensors(folder.block, module_tensors(block=learner.block))\n"
                "    folder.checkpoint.unlink(missing_ok=True)\n",
            ),
        ),
        (f"{KILLS}/test_sweep.py::test_a_kill_around_a_rename_costs_time_and_nothing_else",),
    ),
    Bug(
        "the checkpoint goes before the record is there",
        (
            ("pipeline/training.py", "    folder.checkpoint.unlink(missing_ok=True)\n", ""),
            (
                "pipeline/training.py",
                "    last = epochs[-1]\n",
                "    folder.checkpoint.unlink(missing_ok=True)\n    last = epochs[-1]\n",
            ),
        ),
        (f"{KILLS}/test_power.py::test_calls_come_in_the_order_of_the_protocol",),
    ),
    Bug(
        "the sums of an interrupted epoch are forgotten",
        (("pipeline/training.py", "            tensor.copy_(sums[name])\n", "            pass\n"),),
        (f"{KILLS}/test_sweep.py::test_a_kill_around_a_rename_costs_time_and_nothing_else",),
    ),
    Bug(
        "a loss that is no number is kept",
        (
            (
                "pipeline/training.py",
                "    if math.isfinite(mean_loss) and learner.is_finite():\n",
                "    if not math.isnan(mean_loss + 1) or True:\n",
            ),
        ),
        ("tests/test_training.py::test_a_loss_that_is_no_number_stops_before_anything_is_kept",),
    ),
    Bug(
        "a short last run is not filled up",
        (("pipeline/feed.py", "    if len(stored.rows) == count:\n", "    if len(stored.rows):\n"),),
        ("tests/test_anchor.py::test_a_last_run_of_a_single_sample_is_stored_as_it_is_replayed",),
    ),
    Bug(
        "a key leaves out the order",
        (("pipeline/keys.py", '        "order": msgspec.to_builtins(own.order),\n', ""),),
        ("tests/test_keys.py::test_what_changes_a_result_changes_the_key_of_its_stage_and_of_all_after_it",),
    ),
    Bug(
        "a stage is tested with the statistics of its batches",
        (
            (
                "pipeline/training.py",
                '    learner.train(False)\n    logits, y = outputs(feed, learner.logits, "test")\n',
                '    learner.train(True)\n    logits, y = outputs(feed, learner.logits, "test")\n',
            ),
        ),
        ("tests/test_training.py::test_evaluating_from_the_images_gives_what_was_kept",),
    ),
    Bug(
        "what is replayed is not rounded as what is stored",
        (("cascade/network.py", "            x = quantise(block(x))\n", "            x = block(x)\n"),),
        ("tests/test_network.py::test_prefix_quantises_after_each_of_its_blocks",),
    ),
    Bug(
        "a store of another stage is read",
        (
            (
                "pipeline/runfolder.py",
                'if index and store.attributes.get("key") != self.stages[index - 1].key:',
                'if index and "key" not in store.attributes:',
            ),
        ),
        ("tests/test_anchor.py::test_a_store_that_another_stage_wrote_is_refused",),
    ),
    Bug(
        "two processes may write",
        (("pipeline/lock.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"),),
        (f"{KILLS}/test_races.py::test_of_several_processes_one_works_and_the_others_name_it",),
    ),
    Bug(
        "a full disk does not say where",
        (("cache/files.py", "        error.filename = str(path)  # a full disk does not say which\n", ""),),
        (f"{KILLS}/test_sweep.py::test_where_writing_fails_the_path_and_the_next_action_are_named",),
    ),
)
