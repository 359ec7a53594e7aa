"""How the learning rate moves in the course of a training.

A schedule is a function of the step alone. It keeps no state, so a resumed run needs none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from attrs import frozen
from torch.optim import Optimizer

from detcfg.config import Config
from detcfg.config.ranges import (
    Fraction,
    Increasing,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)


@frozen(kw_only=True)
class ScheduleConfig(Config, ABC):
    """A linear warm-up, and after it the `decay` of a subclass.

    The warm-up's factor is `start_factor` at step 0 and 1 from step `warmup_iters` - 1 on, as of
    mmengine's LinearLR.
    """

    warmup_iters: NonNegativeInt = 500
    """Steps of the warm-up; 0: none."""
    start_factor: PositiveFloat = 0.001
    """The learning rate of the first step is multiplied by it."""

    @abstractmethod
    def decay(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        """What the learning rate of a step is multiplied by, the warm-up left out.

        Args:
            step: Counted from 0, over all epochs.
            steps_per_epoch: Optimizer steps in an epoch.
            total_steps: Optimizer steps of the whole training.
        """

    def factor(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        """What the learning rate of a step is multiplied by; see `decay`."""
        decay = self.decay(step, steps_per_epoch, total_steps)
        if step >= self.warmup_iters - 1:
            return decay
        progress = step / (self.warmup_iters - 1)
        return decay * (self.start_factor + (1 - self.start_factor) * progress)

    def set_lr(self, optimizer: Optimizer, step: int, steps_per_epoch: int, total_steps: int) -> None:
        """Set the learning rates of a step; each group's is relative to its `initial_lr`."""
        factor = self.factor(step, steps_per_epoch, total_steps)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


@frozen(kw_only=True)
class MultiStepConfig(ScheduleConfig):
    """The learning rate drops at the ends of certain epochs."""

    milestones: Increasing[PositiveInt] = (8, 11)
    """After so many epochs it drops."""
    gamma: NonNegativeFloat = 0.1
    """It is multiplied by this at each milestone."""

    def decay(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        del total_steps
        passed = sum(step >= milestone * steps_per_epoch for milestone in self.milestones)
        return float(self.gamma**passed)


@frozen(kw_only=True)
class CosineConfig(ScheduleConfig):
    """The learning rate falls along half a cosine to the end of the training.

    Follows mmengine's CosineAnnealingLR, by steps.
    """

    begin: NonNegativeInt = 0
    """Epochs before it begins to fall."""
    eta_min_ratio: Fraction = 0.0
    """The factor at the end."""
    end: NonNegativeInt = 0
    """Epochs at the end in which it has fallen already (DEIM's without augmentation)."""

    def decay(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        begin = self.begin * steps_per_epoch
        if step <= begin:
            return 1.0
        falling = total_steps - self.end * steps_per_epoch - begin
        progress = min(1.0, (step - begin) / max(1, falling))
        return self.eta_min_ratio + (1 - self.eta_min_ratio) * (1 + math.cos(math.pi * progress)) / 2


@frozen(kw_only=True)
class ConstantConfig(ScheduleConfig):
    """The learning rate stays, once it is warm."""

    def decay(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        del step, steps_per_epoch, total_steps
        return 1.0
