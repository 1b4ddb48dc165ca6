"""What a process frees and takes again costs no page faults."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import torch
from pipeline.device import choose_device
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    choose_device("cpu")
net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.BatchNorm2d(32), torch.nn.ReLU())
x = torch.randn(64, 3, 16, 16)
def step():
    net(x).square().mean().backward()
    net.zero_grad()
for _ in range(20):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", STEPS, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")
def test_a_step_on_a_cpu_takes_the_memory_that_the_last_one_had() -> None:
    assert faults("kept") < 0.2 * faults("as it is")
