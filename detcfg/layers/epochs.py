"""Parts whose training changes with the epoch."""

from __future__ import annotations

from torch import nn


class FollowsEpochs(nn.Module):
    """A module that depends on the epoch, which the trainer sets by `set_epoch`."""

    epoch: int = 0
    """Epochs done so far."""


def set_epoch(model: nn.Module, epoch: int) -> None:
    """Set the number of epochs done in all parts of a model that depend on it."""
    for module in model.modules():
        if isinstance(module, FollowsEpochs):
            module.epoch = epoch
