"""Killed at whatever moment, a training that goes on ends in the very weights of one that was left alone.

`nox -s kills` does it fifty times to one process and fifty times to two that train together.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from attrs import define

from detcfg.engine.run import run_training
from tests.support.processes import assert_same_state, start
from tests.support.tiny import full

KILLS = int(os.environ.get("DETCFG_KILLS", "0"))


@define
class Tally:
    """What became of trainings that were killed."""

    kills: int = 0
    writing: int = 0
    """Of those, the ones that left half a file behind."""
    trainings: int = 0
    """That came to their end."""

    def __str__(self) -> str:
        return f"{self.kills} kills, {self.writing} while a file was written, {self.trainings} trainings"


def alone(folder: Path) -> list[BaseProcess]:
    """A training in one process, which goes on from where it stands."""
    return [start(full(), folder, resume=True)]


def together(folder: Path) -> list[BaseProcess]:
    """A training in two processes, which goes on from where it stands."""
    meeting = folder.with_name(f"{folder.name}-{time.monotonic_ns()}")

    def member(rank: int) -> None:
        torch.set_num_threads(1)
        try:
            dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
            run_training(full(), folder, resume=True)
        except RuntimeError:  # the other one is gone
            os._exit(3)
        dist.destroy_process_group()

    context = multiprocessing.get_context("fork")
    members = [context.Process(target=member, args=(rank,)) for rank in range(2)]
    for process in members:
        process.start()
    return list(members)


def end(members: Sequence[BaseProcess], seconds: float | None = None) -> bool:
    """Wait for processes to end by themselves; whether they did within so many seconds."""
    until = None if seconds is None else time.monotonic() + seconds
    for process in members:
        process.join(None if until is None else max(0, until - time.monotonic()))
    return not any(process.is_alive() for process in members)


def kill(members: Sequence[BaseProcess], chance: random.Random) -> None:
    """Kill some of them; those that are left notice it, and end."""
    for process in chance.sample(members, chance.randint(1, len(members))):
        process.kill()
    if not end(members, 10):
        for process in members:
            process.kill()
    end(members)


def survive(begin: Callable[[Path], list[BaseProcess]], folder: Path, kills: int) -> Tally:
    """Kill trainings so many times in all, and compare all that come to their end with one left alone."""
    began = time.monotonic()
    members = begin(folder / "undisturbed")
    end(members)
    duration = time.monotonic() - began
    assert {process.exitcode for process in members} == {0}
    tally, chance = Tally(), random.Random(0)  # noqa: S311
    while True:
        place = folder / str(tally.trainings)
        members = begin(place)
        if tally.kills < kills and not end(members, chance.uniform(0, duration / 2)):
            kill(members, chance)
            tally.kills += 1
            tally.writing += any(place.glob(".*.tmp"))
            continue
        end(members)
        assert {process.exitcode for process in members} == {0}
        assert_same_state(place, folder / "undisturbed")
        tally.trainings += 1
        if tally.kills == kills:
            return tally


@pytest.mark.timeout(1800)
def test_one_process_killed_at_random_moments_ends_in_the_same_weights(tmp_path: Path) -> None:
    print(f"\none process: {survive(alone, tmp_path, KILLS or 20)}")  # noqa: T201


@pytest.mark.timeout(1800)
def test_two_processes_killed_at_random_moments_end_in_the_same_weights(tmp_path: Path) -> None:
    print(f"\ntwo processes: {survive(together, tmp_path, KILLS or 5)}")  # noqa: T201
