"""Times and memory of work, measured so that another program on the machine disturbs them little.

Pieces of work that are compared run in turns, and a ratio is the median of the ratios of the turns:
whatever slows one down slows its neighbours down as well.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from attrs import frozen


@frozen(kw_only=True)
class Measured:
    """What one piece of work took."""

    seconds: tuple[float, ...]
    """Of each turn."""
    peak_bytes: int | None
    """The peak of the memory in use, less what was in use before; None where the system does not tell."""
    limit_seconds: tuple[float, ...] = ()
    """Of each turn: the part that cannot be left out. Empty where it was not measured."""

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def limit(self) -> float | None:
        """The median of the limit."""
        return median(self.limit_seconds) if self.limit_seconds else None

    @property
    def outside(self) -> float | None:
        """The share of the time that everything else takes, beyond the limit."""
        if not self.limit_seconds:
            return None
        return median(
            1 - least / total for total, least in zip(self.seconds, self.limit_seconds, strict=True)
        )

    def speed_up_over(self, other: Measured) -> float:
        """How many times as fast it is as `other`, which was measured in turns with it."""
        return median(theirs / ours for ours, theirs in zip(self.seconds, other.seconds, strict=True))


def in_turns(
    tasks: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    limits: Mapping[str, Callable[[], float]] | None = None,
) -> dict[str, Measured]:
    """Run each task once to warm up and to see its memory, then all of them `rounds` times in turns.

    Args:
        tasks: The pieces of work.
        rounds: How many turns each takes.
        device: Where they run.
        limits: For some of the tasks, a function that is run right after it in each turn and returns the seconds
            of the limit.
    """
    limits = limits or {}
    peaks = {name: peak_memory(task, device) for name, task in tasks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    least: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            seconds[name].append(timed(task, device))
            if name in limits:
                least[name].append(limits[name]())
    return {
        name: Measured(seconds=tuple(seconds[name]), peak_bytes=peaks[name], limit_seconds=tuple(least[name]))
        for name in tasks
    }


def timed(task: Callable[[], object], device: torch.device) -> float:
    """The seconds that a task takes, until its device has finished too."""
    _synchronise(device)
    start = perf_counter()
    task()
    _synchronise(device)
    return perf_counter() - start


def peak_memory(task: Callable[[], object], device: torch.device) -> int | None:
    """Run a task; the most memory that it had in use, above what was in use before."""
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        task()
        return torch.cuda.max_memory_allocated(device) - before
    start = _reset_peak()
    task()
    return None if start is None else _memory("VmHWM") - start


def _reset_peak() -> int | None:
    """Let Linux forget the most memory that the process had in use; what is in use now, or None elsewhere."""
    _trim()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _memory("VmRSS")


def _trim() -> None:
    """Give back what the allocator keeps for later, which new memory would be taken from unseen."""
    trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
