"""Res2Net (mmdet/models/backbones/res2net.py)."""

from __future__ import annotations

from math import floor
from typing import Literal, Self

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.backbones.residual import BlockPlan, BottleneckFrame, middle_conv
from detcfg.backbones.resnet import ResNetV1dConfig
from detcfg.config import ConfigError
from detcfg.config.ranges import PositiveInt
from detcfg.layers.conv import build_conv
from detcfg.layers.fold import conv_norm


@frozen(kw_only=True)
class Res2NetConfig(ResNetV1dConfig):
    """Res2Net, in its variant v1b (Gao et al., 2019, https://arxiv.org/abs/1904.01169)."""

    depth: Literal[50, 101, 152] = 50
    """Layers, which decide how many blocks each stage has."""
    scales: PositiveInt = 4
    """Parts that the channels of a block are split into."""
    base_width: PositiveInt = 26
    """Channels of one part in the first stage."""

    def wired(self) -> Self:
        if self.scales < 2:
            raise ConfigError(
                f"scales is {self.scales}, but with fewer than 2 it is a ResNet. Use ResNetV1dConfig."
            )
        return super().wired()

    def block_plans(self, stage: int) -> list[BlockPlan]:
        width = floor(self.stage_widths[stage] * (self.base_width / self.base_channels))
        return [evolve(plan, mid_channels=width * self.scales) for plan in super().block_plans(stage)]

    def make_block(self, plan: BlockPlan) -> Bottle2neck:
        return Bottle2neck(self, plan)


class Bottle2neck(BottleneckFrame):
    """The middle treats its channels in parts: each 3x3 convolution also sees the part before it.

    The first block of a stage, which changes the shape, treats its parts apart. The last part has no
    convolution.
    """

    def __init__(self, config: Res2NetConfig, plan: BlockPlan) -> None:
        super().__init__(config, plan)
        width, stride = plan.mid_channels // config.scales, self.middle_stride
        self.scales = config.scales
        self.parts_apart = plan.first
        self.pool = nn.AvgPool2d(3, stride, padding=1) if stride != 1 else nn.Identity()
        self.convs = nn.ModuleList(
            build_conv(middle_conv(config, plan), plan.conv3x3(width, width, stride=stride))
            for _ in range(config.scales - 1)
        )
        self.bns = nn.ModuleList(config.norm_cfg.build_for(width) for _ in range(config.scales - 1))

    def middle(self, x: Tensor) -> Tensor:
        *parts, last = x.chunk(self.scales, dim=1)
        outs: list[Tensor] = []
        for part, conv, norm in zip(parts, self.convs, self.bns, strict=True):
            seen = part if self.parts_apart or not outs else part + outs[-1]
            outs.append(self.relu(conv_norm(conv, norm, seen)))
        return torch.cat([*outs, self.pool(last)], dim=1)
