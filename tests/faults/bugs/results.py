"""A result is another, and nothing says so."""

from tests.faults.bugs.bug import Bug

ORDER = "tests/test_order.py"

RESULTS = (
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
        "stage 1 starts from the seed of stage 0",
        (("pipeline/problem.py", "draw_weights(seed, i, block", "draw_weights(seed, max(i - 1, 0), block"),),
        ("tests/test_golden.py::test_results_are_those_of_this_number_of_the_algorithm[initial weights]",),
    ),
    Bug(
        "a loss that is no number is kept",
        (
            (
                "pipeline/finite.py",
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
                "pipeline/finite.py",
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
        (("cascade/network.py", "            x = quantise(x)\n", ""),),
        ("tests/test_network.py::test_prefix_quantises_after_each_of_its_blocks",),
    ),
)
