"""Modules that follow the epochs of a training."""

from __future__ import annotations

from torch import nn

from detcfg.layers.epochs import FollowsEpochs, set_epoch


def test_the_parts_that_follow_epochs_are_told_wherever_they_are() -> None:
    model = nn.Sequential(nn.Sequential(FollowsEpochs()), nn.ReLU(), FollowsEpochs())

    set_epoch(model, 3)

    assert [part.epoch for part in model.modules() if isinstance(part, FollowsEpochs)] == [3, 3]
    assert FollowsEpochs().epoch == 0
