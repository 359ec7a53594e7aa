"""Parts that learn otherwise in the course of a training."""

from __future__ import annotations

from torch import nn


class FollowsEpochs(nn.Module):
    """A module that asks in which epoch it is; `set_epoch` tells it, and the trainer calls that."""

    epoch: int = 0
    """Epochs that are done."""


def set_epoch(model: nn.Module, epoch: int) -> None:
    """Tell all parts of a model that want to know how many epochs are done."""
    for module in model.modules():
        if isinstance(module, FollowsEpochs):
            module.epoch = epoch
