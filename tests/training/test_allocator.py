from __future__ import annotations

import platform
import subprocess
import sys

PROGRAM = """
import resource, sys
from overseer_training.training.allocator import give_back_freed_memory, keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(20):
    block = b"x" * (32 << 20)
    del block
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = int(open("/proc/self/statm").read().split()[1])
give_back_freed_memory()
after = int(open("/proc/self/statm").read().split()[1])
print(faults, before - after)
"""


def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    if platform.libc_ver()[0] != "glibc":
        return
    results = {}
    for mode in ("keep", "leave"):
        run = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
        results[mode] = [int(word) for word in run.stdout.split()]
    pages = (32 << 20) // 4096
    assert results["leave"][0] - results["keep"][0] > 10 * pages  # each of the 20 blocks was fetched anew
    assert results["keep"][1] > pages // 2 > results["leave"][1]
