"""Freed memory serves again, without the system having to clear it."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from detcfg.engine.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory(torch.device("cpu"))
work = lambda: torch.ones(64 * 2**20, dtype=torch.uint8)
for _ in range(8):  # an aligned block needs a somewhat larger gap than it leaves, so the first grow the heap
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    work()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


def cleared(mode: str) -> int:
    """Bytes that the system clears while 64 MiB are taken and freed eight times, after as many to warm up."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, mode], check=True, capture_output=True, text=True, timeout=120
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc that is told to keep memory")
def test_a_block_that_was_freed_is_taken_again_without_a_page_fault() -> None:
    # Of 512 MiB. A fault may bring several pages at once, so that the plain case is known by comparison only.
    assert cleared("keep") * 8 < cleared("plain")
