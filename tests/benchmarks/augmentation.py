"""What each augmentation policy past x_0 costs in accuracy and in bytes, against fresh draws: docs/augmentation.md.

python -m tests.benchmarks.augmentation --folder DIR --source npz:cifar10.npz --preset cifar10-small --seeds 3
"""

from tests.benchmarks.study import Arm, parser, run_study

ARMS = [
    Arm("recompute", ('augment.policy="recompute"',)),
    Arm("canvas", ('augment.policy="canvas"',)),
    Arm("canvas, 2 phases", ('augment.policy="canvas"', "augment.phases=2")),
    Arm("canvas, 4 phases", ('augment.policy="canvas"', "augment.phases=4")),
    Arm("canvas cut at 1", ('augment.policy="canvas"', "augment.cut_at=1")),
    Arm("canvas cut at 2", ('augment.policy="canvas"', "augment.cut_at=2")),
    Arm("views-4", ('augment.policy="views"', "augment.views=4")),
    Arm("views-8", ('augment.policy="views"', "augment.views=8")),
    Arm("views-2", ('augment.policy="views"', "augment.views=2")),
    Arm("views-1", ('augment.policy="views"', "augment.views=1")),
    Arm("none", ('augment.policy="none"',)),
    Arm("views-4, a view for 8 samples", ('augment.policy="views"', "augment.views=4", "order.run=8")),
    Arm("canvas, a view for 8 samples", ('augment.policy="canvas"', "order.run=8")),
]

if __name__ == "__main__":
    run_study(ARMS, parser(__doc__).parse_args())
