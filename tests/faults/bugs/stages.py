"""A stage does not go on as if nothing had happened."""

from tests.faults.bugs.bug import Bug

POWER = "tests/faults/test_power.py"
SWEEP = "tests/faults/test_sweep.py"
NOT_DURABLE = "test_a_name_that_was_not_made_durable_is_by_the_command_that_goes_on"
CHECKPOINT = "tests/test_checkpoint.py"
FIT = "tests/test_fit.py"
RESUME = "tests/test_resume.py"

STAGES = (
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
            f"{SWEEP}::test_a_kill_around_a_rename_costs_time_and_nothing_else",
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
        (
            f"{RESUME}::test_a_stage_asked_to_stop_at_any_point_ends_in_the_same_bytes",
            f"{SWEEP}::test_a_kill_around_a_rename_costs_time_and_nothing_else",
        ),
    ),
    Bug(
        "momentum is forgotten where a stage goes on",
        (
            (
                "pipeline/fit.py",
                "        if since and config.reset_momentum and ",
                "        if self.state.under_way.consumed or since and config.reset_momentum and ",
            ),
            ("pipeline/fit.py", " and not self.state.under_way.consumed:", ":"),
        ),
        (
            f"{RESUME}::test_a_stage_asked_to_stop_at_any_point_ends_in_the_same_bytes",
            f"{SWEEP}::test_a_kill_around_a_rename_costs_time_and_nothing_else",
        ),
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
                "import load_modules, module_tensors, save_tensors",
                "import load_modules, module_tensors, pack_tensors, save_tensors",
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
        (
            f"{FIT}::test_each_file_of_a_stage_comes_once_those_that_it_counts_on_are_there",
            f"{SWEEP}::test_a_kill_around_a_rename_costs_time_and_nothing_else",
        ),
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
        (
            f"{FIT}::test_each_file_of_a_stage_comes_once_those_that_it_counts_on_are_there",
            f"{POWER}::test_calls_come_in_the_order_of_the_protocol",
        ),
    ),
    Bug(
        "the sums of an interrupted epoch are forgotten",
        (("pipeline/checkpoint.py", "        progress.tensors()[name].copy_(tensor)\n", "        pass\n"),),
        (
            f"{CHECKPOINT}::test_a_state_comes_back_as_it_was",
            f"{SWEEP}::test_a_kill_around_a_rename_costs_time_and_nothing_else",
        ),
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
                "    make_folder(problem.folder.path)\n",
                "    problem.folder.path.mkdir(parents=True, exist_ok=True)\n",
            ),
        ),
        (f"{FIT}::test_the_folder_of_a_stage_is_durable_before_anything_is_in_it",),
    ),
    Bug(
        "a record that may be lost is trusted",
        (("pipeline/training.py", "    _make_durable(run, j)\n", ""),),
        (f"{SWEEP}::{NOT_DURABLE}[run]",),
    ),
    Bug(
        "an x_0 that may be lost is trusted",
        (
            (
                "pipeline/ingest.py",
                "        sync(run_folder)  # who put x_0 in place may have been killed before its name was durable\n",
                "",
            ),
        ),
        ("tests/test_ingest.py::test_the_name_of_images_that_are_there_is_made_durable",),
    ),
    Bug(
        "a second signal is noted like the first",
        (
            (
                "pipeline/stopping.py",
                "            signal.signal(other, signal.SIG_DFL)  #",
                "            signal.getsignal(other)  #",
            ),
        ),
        (
            "tests/test_stopping.py::test_a_second_signal_ends_the_process_at_once",
            "tests/faults/test_again.py::test_a_second_signal_ends_a_run_that_stops_at_once_and_the_same_command_goes_on",
        ),
    ),
    Bug(
        "a stage goes on from the checkpoint of other settings",
        (
            (
                "pipeline/checkpoint.py",
                "(position.key, position.metrics) == (folder.key, metrics_content(records))",
                "position.metrics == metrics_content(records)",
            ),
        ),
        (f"{CHECKPOINT}::test_a_checkpoint_of_other_settings_is_refused",),
    ),
)
