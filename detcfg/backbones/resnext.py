"""ResNeXt (mmdet/models/backbones/resnext.py)."""

from __future__ import annotations

from math import floor
from typing import Literal

from attrs import evolve, frozen

from detcfg.backbones.residual import BlockPlan
from detcfg.backbones.resnet import ResNetConfig
from detcfg.config.ranges import PositiveInt


@frozen(kw_only=True)
class ResNeXtConfig(ResNetConfig):
    """A ResNet whose 3x3 convolutions have groups (Xie et al., 2016, https://arxiv.org/abs/1611.05431).

    The 32x4d of the paper is `groups=32, base_width=4`.
    """

    depth: Literal[50, 101, 152] = 50
    """Layers, which decide how many blocks each stage has."""
    groups: PositiveInt = 1
    """Groups of channels that do not mix."""
    base_width: PositiveInt = 4
    """Channels of one group in the first stage."""

    def block_plans(self, stage: int) -> list[BlockPlan]:
        width = grouped_width(self.stage_widths[stage], self.groups, self.base_width, self.base_channels)
        return [evolve(plan, mid_channels=width, groups=self.groups) for plan in super().block_plans(stage)]


def grouped_width(width: int, groups: int, base_width: int, base_channels: int) -> int:
    """Channels of the middle of a block that without groups is `width` wide."""
    return width if groups == 1 else floor(width * (base_width / base_channels)) * groups
