"""What encoding x_j in fewer bits costs in accuracy, against float32: docs/performance.md.

python -m tests.benchmarks.encodings --folder DIR --source npz:cifar10.npz --preset cifar10-small --seeds 8
"""

from tests.benchmarks.study import Arm, parser, run_study

ARMS = [Arm(encoding, (f'store.encoding="{encoding}"',)) for encoding in ("float32", "uint8", "uint4", "float16")]

if __name__ == "__main__":
    run_study(ARMS, parser(__doc__).parse_args())
