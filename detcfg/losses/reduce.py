"""Divisors of losses that all processes share."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def reduce_mean(value: Tensor) -> Tensor:
    """The mean of a float tensor over the processes of a distributed run; alone, the tensor itself.

    Losses that are divided by their positives are divided by the mean count, so that an image
    weighs the same on every process. Follows mmdet/utils/dist_utils.py.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return value
    mean = value.detach().clone() / dist.get_world_size()
    dist.all_reduce(mean)
    return mean


def shared_factor(value: Tensor | float, like: Tensor, least: float = 1.0) -> Tensor:
    """`reduce_mean` of a number as a tensor beside `like`, and at least `least`."""
    number = value.detach() if isinstance(value, Tensor) else torch.tensor(value, device=like.device)
    return reduce_mean(number.float()).clamp(min=least)
