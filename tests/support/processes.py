"""Trainings in processes of their own, which tests may kill."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed as dist
import torch.utils.tensorboard
import torchvision.transforms.v2  # noqa: F401  # here, so that no process has to load it again
from torch import Tensor

from detcfg.engine.checkpoint import LAST, load_training
from detcfg.engine.run import run_training
from detcfg.engine.sharded_checkpoint import newest
from detcfg.engine.weights import load_weights
from detcfg.errors import DetcfgError
from detcfg.experiment import ExperimentConfig


def start(experiment: ExperimentConfig, folder: Path, *, resume: bool = False) -> BaseProcess:
    """A training in a copy of this process, which has torch loaded already."""
    process = multiprocessing.get_context("fork").Process(target=_train, args=(experiment, folder, resume))
    process.start()
    return process


def _train(experiment: ExperimentConfig, folder: Path, resume: bool) -> None:  # noqa: FBT001
    torch.set_num_threads(1)
    try:
        run_training(experiment, folder, resume=resume)
    except DetcfgError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(3)


def final_state(folder: Path) -> dict[str, Tensor]:
    """All tensors of the last checkpoint."""
    state = load_training(folder / LAST)
    tensors = {f"model.{name}": tensor for name, tensor in state.model.items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in (state.ema or {}).items()}
    return tensors | {
        f"optimizer.{index}.{name}": value
        for index, values in state.optimizer["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def assert_same_state(folder: Path, other: Path) -> None:
    """The last checkpoints agree bit for bit."""
    one, two = final_state(folder), final_state(other)
    assert one.keys() == two.keys()
    differing = [name for name, tensor in one.items() if not torch.equal(tensor, two[name])]
    assert not differing
    assert load_training(folder / LAST).progress == load_training(other / LAST).progress


def last_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of the last checkpoint, whole or in shards."""
    return load_weights(newest(folder) or folder / LAST)


def assert_close(one: dict[str, Tensor], two: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """The same names, and values within the tolerance, relative or absolute."""
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=tolerance, atol=tolerance, msg=name)


def members(size: int, work: Callable[[], object], folder: Path) -> list[BaseProcess]:
    """So many processes that know each other, each of which has begun the work."""
    meeting = folder.with_name(f"{folder.name}-{time.monotonic_ns()}")

    def member(rank: int) -> None:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
        work()
        dist.destroy_process_group()

    context = multiprocessing.get_context("fork")
    processes: list[BaseProcess] = [context.Process(target=member, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    return processes


def finished(processes: list[BaseProcess]) -> None:
    """Wait until all have ended, and none of them by a failure."""
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)
