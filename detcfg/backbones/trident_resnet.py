"""ResNet whose last stage looks at three scales (mmdet/models/backbones/trident_resnet.py).

Shapes: (B, 3, H, W) to (n * B, C_i, H / S_i, W / S_i), first the B images of the first branch.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
from annotated_types import Ge, Le
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from detcfg.backbones.residual import BlockPlan, Bottleneck, ResidualBlock
from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import ConfigError
from detcfg.config.ranges import Increasing, IntOrOff, NonEmpty, NonNegativeInt, PositiveInt


@frozen(kw_only=True)
class TridentResNetConfig(ResNetConfig):
    """TridentNet (Li et al., 2019, https://arxiv.org/abs/1901.01892).

    The third stage has branches that share their weights and differ in dilation.
    """

    num_stages: Annotated[int, Ge(1), Le(4)] = 3
    """Stages; the last of them is in branches."""
    strides: NonEmpty[PositiveInt] = (1, 2, 2)
    """Stride of each stage's first block."""
    dilations: NonEmpty[PositiveInt] = (1, 1, 1)
    """Dilation of each stage's 3x3 convolutions."""
    out_indices: Increasing[NonNegativeInt] = (2,)
    """The stages whose output is given, from 0."""
    stage_with_dcn: tuple[bool, ...] = (False, False, False)
    """Which stages have `dcn`."""
    num_branch: PositiveInt = 3
    """Branches, which share their weights."""
    trident_dilations: NonEmpty[PositiveInt] = (1, 2, 3)
    """Dilation of each branch."""
    test_branch_idx: IntOrOff = 1
    """The branch in use in testing; -1: all of them."""

    def wired(self) -> Self:
        wired = super().wired()
        if self.depth < 50 or self.num_stages != 3 or self.out_indices != (2,):
            raise ConfigError(
                f"depth is {self.depth}, num_stages {self.num_stages} and out_indices {self.out_indices}, but "
                "the branches are in the third and last stage, of bottleneck blocks. "
                "Give depth=50 or more, num_stages=3 and out_indices=(2,)."
            )
        if len(self.trident_dilations) != self.num_branch:
            raise ConfigError(
                f"trident_dilations is {self.trident_dilations}, but num_branch is {self.num_branch}. "
                "Give one dilation a branch."
            )
        if not -1 <= self.test_branch_idx < self.num_branch:
            raise ConfigError(
                f"test_branch_idx is {self.test_branch_idx}, but num_branch is {self.num_branch}: "
                f"give 0 to {self.num_branch - 1}, or -1 for all."
            )
        if self.frozen_stages > 2:
            raise ConfigError(
                f"frozen_stages is {self.frozen_stages}, but a frozen stage has no branches in training. "
                "Give at most 2."
            )
        if self.dcn is not None and self.stage_with_dcn[2]:
            raise ConfigError(
                f"stage_with_dcn is {self.stage_with_dcn}, but the branches of the third stage "
                "have dilated convolutions. Make its last value False."
            )
        return wired

    def make_block(self, plan: BlockPlan) -> ResidualBlock:
        return TridentBottleneck(self, plan) if plan.stage == 2 else super().make_block(plan)


class TridentBottleneck(Bottleneck):
    """A bottleneck whose 3x3 convolution has the dilation of its branch. Branches lie along the batch."""

    def __init__(self, config: TridentResNetConfig, plan: BlockPlan) -> None:
        super().__init__(config, plan)
        self.first = plan.first
        self.dilations = config.trident_dilations
        self.test_branch_idx = config.test_branch_idx

    @property
    def active(self) -> tuple[int, ...]:
        """The dilations of the branches in use."""
        everything = self.training or self.test_branch_idx == -1
        return self.dilations if everything else (self.dilations[self.test_branch_idx],)

    def _sum(self, x: Tensor) -> Tensor:
        return super()._sum(x.repeat(len(self.active), 1, 1, 1) if self.first else x)

    def middle(self, x: Tensor) -> Tensor:
        weight = self.conv2.get_parameter("weight")
        branches = zip(self.active, x.chunk(len(self.active)), strict=True)
        convolved = [
            F.conv2d(part, weight, None, self.middle_stride, dilation, dilation)
            for dilation, part in branches
        ]
        out: Tensor = self.relu(self.norm(2)(torch.cat(convolved)))
        return out
