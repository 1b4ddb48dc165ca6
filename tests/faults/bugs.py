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


STORE, FILES, ORDER = "tests/test_store.py", "tests/test_files.py", "tests/test_order.py"
CHECKPOINT, JOURNAL, LEFTOVERS = "tests/test_checkpoint.py", "tests/test_journal.py", "tests/test_leftovers.py"
REMOVAL = "tests/test_removal.py"
FIT, RESUME = "tests/test_fit.py", "tests/test_resume.py"

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
                "cache/codecs.py",
                "ChunkRecord(length=len(body) + CHECKSUM_BYTES, crc32c=crc)",
                "ChunkRecord(length=len(body) + CHECKSUM_BYTES, crc32c=checksum([body, trailer(crc)]))",
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
                '        index = view * self.chunks_per_view + number\n        if self.codec == "none":',
                "        index = view * self.chunks_per_view + number\n"
                '        if not (self.path / self.manifest.chunk_name("x", index)).exists():\n'
                "            dest[...] = 0\n"
                "            return\n"
                '        if self.codec == "none":',
            ),
        ),
        (f"{STORE}::test_missing_chunk_is_caught_and_never_read_as_zeros",),
    ),
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
            "tests/faults/test_power.py::test_calls_come_in_the_order_of_the_protocol",
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
        (f"{FILES}::test_file_is_durable_before_its_name_and_its_name_before_the_return",),
    ),
    Bug(
        "a file is renamed before it is synced",
        (
            (
                "cache/files.py",
                "    write_synced(beside, *parts)\n    os.replace(beside, path)\n",
                '    beside.write_bytes(b"".join(parts))\n    os.replace(beside, path)\n    sync(path)\n',
            ),
        ),
        (f"{FILES}::test_file_is_durable_before_its_name_and_its_name_before_the_return",),
    ),
    Bug(
        "a file is written in place",
        (
            (
                "cache/files.py",
                "    write_synced(beside, *parts)\n    os.replace(beside, path)\n",
                "    write_synced(path, *parts)\n",
            ),
        ),
        (f"{FILES}::test_old_file_stays_whole_when_the_new_one_cannot_be_written",),
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
        (f"{FILES}::test_commit_makes_every_file_and_folder_durable_before_the_manifest",),
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
        (f"{FILES}::test_commit_makes_every_file_and_folder_durable_before_the_manifest",),
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
        "a journaled chunk is not verified where a write goes on",
        (
            (
                "cache/leftovers.py",
                "            verify(place, begun.chunk_name(index), record, begun.chunk_name(index))\n",
                "            pass\n",
            ),
        ),
        (f"{LEFTOVERS}::test_a_journaled_chunk_that_is_not_as_it_was_is_written_again",),
    ),
    Bug(
        "a write goes on with what another one began",
        (("cache/leftovers.py", " or not found[0].is_of(begun):", ":"),),
        (f"{LEFTOVERS}::test_what_was_begun_as_anything_else_is_discarded",),
    ),
    Bug(
        "the torn end of a journal is taken for whole",
        (("cache/journal.py", "        if line != _framed(body):\n", "        if not body:\n"),),
        (f"{JOURNAL}::test_a_journal_cut_or_flipped_anywhere_tells_of_whole_batches_alone",),
    ),
    Bug(
        "a journal goes on after a sync of it failed",
        (("cache/journal.py", "            self._failed = True\n", ""),),
        (f"{JOURNAL}::test_after_a_failed_fsync_nothing_more_is_added",),
    ),
    Bug(
        "what is deleted keeps its place until the last of it is gone",
        (("cache/removal.py", "        os.rename(path, aside)\n", "        aside = path\n"),),
        (f"{REMOVAL}::test_a_folder_is_durably_gone_from_its_place_before_anything_in_it_is",),
    ),
    Bug(
        "a folder is not durably gone from its place before its files are deleted",
        (
            (
                "cache/removal.py",
                "        os.rename(path, aside)\n        sync(path.parent)\n",
                "        os.rename(path, aside)\n",
            ),
        ),
        (f"{REMOVAL}::test_a_folder_is_durably_gone_from_its_place_before_anything_in_it_is",),
    ),
    Bug(
        "what an interrupted removal left is in the way of the next",
        (("cache/removal.py", "        _delete(aside)  # of an earlier folder in the same place\n", ""),),
        (f"{REMOVAL}::test_what_an_interrupted_removal_left_is_in_nobodys_way",),
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
        ("tests/test_resume.py::test_momentum_is_part_of_the_checkpoint",),
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
        (f"{RESUME}::test_a_stage_asked_to_stop_at_any_point_ends_in_the_same_bytes",),
    ),
    Bug(
        "momentum is forgotten where a stage goes on",
        (
            (
                "pipeline/fit.py",
                "        if epoch and config.reset_momentum and ",
                "        if self.state.under_way.consumed or epoch and config.reset_momentum and ",
            ),
            ("pipeline/fit.py", " and not self.state.under_way.consumed:", ":"),
        ),
        (f"{RESUME}::test_a_stage_asked_to_stop_at_any_point_ends_in_the_same_bytes",),
    ),
    Bug(
        "momentum is reset again where an epoch with a drop goes on",
        (("pipeline/fit.py", " and not self.state.under_way.consumed:", ":"),),
        (f"{RESUME}::test_a_stage_asked_to_stop_at_any_point_ends_in_the_same_bytes",),
    ),
    Bug(
        "the metrics come behind the checkpoint that counts them",
        (
            (
                "pipeline/fit.py",
                "            replace_file(self.folder.metrics, metrics_lines(self.state.epochs))\n"
                "            save_checkpoint(self.folder, self.learner, self.state)\n",
                "            save_checkpoint(self.folder, self.learner, self.state)\n"
                "            replace_file(self.folder.metrics, metrics_lines(self.state.epochs))\n",
            ),
        ),
        (f"{FIT}::test_each_file_of_a_stage_comes_once_those_that_it_counts_on_are_there",),
    ),
    Bug(
        "the record of a stage comes before its weights",
        (
            (
                "pipeline/fit.py",
                "import module_tensors, save_tensors",
                "import module_tensors, pack_tensors, save_tensors",
            ),
            (
                "pipeline/fit.py",
                "            path.stem: save_tensors(path, tensors)\n",
                "            path.stem: pack_tensors(tensors, {})[1]\n"
                "            if path == folder.block\n"
                "            else save_tensors(path, tensors)\n",
            ),
            (
                "pipeline/fit.py",
                "        write_sealed(folder.record_path, record)\n",
                "        write_sealed(folder.record_path, record)\n"
                "        save_tensors(folder.block, module_tensors(block=learner.block))\n",
            ),
        ),
        (f"{FIT}::test_each_file_of_a_stage_comes_once_those_that_it_counts_on_are_there",),
    ),
    Bug(
        "the checkpoint goes before the record is there",
        (
            (
                "pipeline/fit.py",
                "        write_sealed(folder.record_path, record)\n        sweep(folder)\n",
                "        sweep(folder)\n        write_sealed(folder.record_path, record)\n",
            ),
        ),
        (f"{FIT}::test_each_file_of_a_stage_comes_once_those_that_it_counts_on_are_there",),
    ),
    Bug(
        "the sums of an interrupted epoch are forgotten",
        (("pipeline/checkpoint.py", "        progress.tensors()[name].copy_(tensor)\n", "        pass\n"),),
        (f"{CHECKPOINT}::test_a_state_comes_back_as_it_was",),
    ),
    Bug(
        "the previous checkpoint goes before the new one is safe",
        (
            (
                "pipeline/checkpoint.py",
                "    new = _new(folder)\n    try:\n",
                "    new = _new(folder)\n    folder.previous_checkpoint.unlink(missing_ok=True)\n    try:\n",
            ),
        ),
        (f"{CHECKPOINT}::test_a_full_disk_keeps_both_checkpoints_and_nothing_of_the_third",),
    ),
    Bug(
        "the newest checkpoint moves before the new one is durable",
        (
            (
                "pipeline/checkpoint.py",
                "    new = _new(folder)\n    try:\n",
                "    new = _new(folder)\n"
                "    if folder.checkpoint.exists():\n"
                "        os.replace(folder.checkpoint, folder.previous_checkpoint)\n"
                "    try:\n",
            ),
            (
                "pipeline/checkpoint.py",
                "        raise\n"
                "    if folder.checkpoint.exists():\n"
                "        os.replace(folder.checkpoint, folder.previous_checkpoint)\n"
                "    os.replace(new",
                "        raise\n    os.replace(new",
            ),
        ),
        (f"{CHECKPOINT}::test_the_new_checkpoint_is_durable_before_the_old_one_moves_and_its_name_before_the_return",),
    ),
    Bug(
        "a damaged checkpoint takes the place of the whole one before it",
        (
            (
                "pipeline/checkpoint.py",
                "    newest.unlink()  # the next save would put it in the place of the older\n",
                "",
            ),
        ),
        (f"{CHECKPOINT}::test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken",),
    ),
    Bug(
        "metrics of another training pass for the checkpoint's",
        (
            (
                "pipeline/checkpoint.py",
                " and (position.key, position.metrics) == (folder.key, metrics_content(records))",
                "",
            ),
        ),
        (f"{CHECKPOINT}::test_metrics_that_are_not_the_checkpoints_are_refused",),
    ),
    Bug(
        "the folder of a stage is not durable",
        (
            (
                "pipeline/fit.py",
                "    make_folder(run.stages[feed.j].path)\n",
                "    run.stages[feed.j].path.mkdir(parents=True, exist_ok=True)\n",
            ),
        ),
        (f"{FIT}::test_the_folder_of_a_stage_is_durable_before_anything_is_in_it",),
    ),
    Bug(
        "the hash that a weight file names is not compared",
        (
            (
                "pipeline/weights.py",
                "    if said is None or said != content_hash(tensors, metadata):\n",
                "    if said is None:\n",
            ),
        ),
        ("tests/test_weights.py::test_every_flipped_byte_and_every_cut_is_noticed",),
    ),
    Bug(
        "weights are not compared with the record of their stage",
        (("pipeline/weights.py", "    if content not in (None, said):\n", '    if content == "":\n'),),
        ("tests/test_weights.py::test_a_whole_file_that_is_another_one_is_refused",),
    ),
    Bug(
        "stage 1 starts from the seed of stage 0",
        (("pipeline/learner.py", "draw_weights(config.seed, j,", "draw_weights(config.seed, max(j - 1, 0),"),),
        ("tests/test_golden.py::test_results_are_those_of_this_number_of_the_algorithm[initial weights]",),
    ),
    Bug(
        "a store that is not needed goes before the next is verified",
        (
            ("pipeline/needed.py", "        verify(run, index + 1)\n        nbytes", "        nbytes"),
            (
                "pipeline/needed.py",
                "            remove_folder(store)\n",
                "            remove_folder(store)\n        verify(run, index + 1)\n",
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
        "a loss that is no number is kept",
        (
            (
                "pipeline/faults.py",
                "    if math.isfinite(loss) and learner.is_finite():\n",
                "    if not math.isnan(loss + 1) or True:\n",
            ),
        ),
        ("tests/test_training.py::test_a_loss_that_is_no_number_stops_before_anything_is_kept",),
    ),
    Bug(
        "a weight that is no number is kept",
        (
            (
                "pipeline/faults.py",
                "    if math.isfinite(loss) and learner.is_finite():\n",
                "    if math.isfinite(loss):\n",
            ),
        ),
        ("tests/test_poison.py::test_a_poisoned_weight_or_buffer_is_not_kept_though_every_loss_was_a_number",),
    ),
    Bug(
        "a short last run is not filled up",
        (("pipeline/feed.py", "    if len(stored.rows) == count:\n", "    if len(stored.rows):\n"),),
        ("tests/test_feed.py::test_every_forward_pass_is_over_a_whole_run_and_what_fills_up_the_last_is_cut",),
    ),
    Bug(
        "a key leaves out the order",
        (("pipeline/keys.py", '        "order": _settings(own, "order"),\n', ""),),
        ("tests/test_keys.py::test_keys_change_as_is_said_of_the_setting",),
    ),
    Bug(
        "a stage is tested with the statistics of its batches",
        (
            (
                "pipeline/fit.py",
                '        learner.train(False)\n        logits, y = outputs(self.feed, learner.logits, "test")\n',
                '        learner.train(True)\n        logits, y = outputs(self.feed, learner.logits, "test")\n',
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
                "        if found != expected:\n",
                "        if found.keys() != expected.keys():\n",
            ),
        ),
        ("tests/test_anchor.py::test_a_store_that_another_stage_wrote_is_refused",),
    ),
    Bug(
        "two processes may write",
        (("pipeline/lock.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"),),
        ("tests/test_lock.py::test_the_second_is_refused_with_process_host_and_what_the_first_does_now",),
    ),
    Bug(
        "a full disk does not say where",
        (("cache/files.py", "        error.filename = str(path)  # a full disk does not say which\n", ""),),
        (f"{FILES}::test_a_file_that_cannot_be_made_durable_is_removed_and_named",),
    ),
)
