"""Divisors of losses that all processes share."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

_ALONE: Final[ContextVar[bool]] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Generator[None]:
    """Within it, losses are not shared: this process may compute more or fewer of them than the others."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def are_shared() -> bool:
    """Whether losses are computed along with other processes, each of which computes the same ones."""
    return dist.is_available() and dist.is_initialized() and not _ALONE.get()


def reduce_mean(value: Tensor) -> Tensor:
    """The mean of a float tensor over the processes of a distributed run; alone, the tensor itself.

    Losses that are divided by their positives are divided by the mean count, so that an image
    weighs the same on every process. Follows mmdet/utils/dist_utils.py.
    """
    if not are_shared():
        return value
    mean = value.detach().clone() / dist.get_world_size()
    dist.all_reduce(mean)
    return mean


def reduce_sum(value: Tensor) -> Tensor:
    """The sum of a float tensor over the processes of a distributed run; alone, the tensor itself."""
    return reduce_mean(value) * num_shares()


def shared_factor(value: Tensor | float, like: Tensor, least: float = 1.0) -> Tensor:
    """`reduce_mean` of a number as a tensor beside `like`; over all processes together it is at least `least`.

    MMDetection bounds the mean, so that one process and several learn differently from few positives.
    """
    number = value.detach() if isinstance(value, Tensor) else torch.tensor(value, device=like.device)
    return reduce_mean(number.float()).clamp(min=least / num_shares())


def num_shares() -> int:
    """How many processes share a divisor."""
    return dist.get_world_size() if are_shared() else 1
