"""The features that SOLOv2's masks are made of.

Shapes: features are (B, C, H_i, W_i), finest first; one map (B, E, H_0, W_0) comes out.
"""

from __future__ import annotations

from typing import Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, ModuleConfig, derived
from detcfg.config.ranges import IndexOrLast, NonNegativeInt, PositiveInt
from detcfg.heads.dense.towers import init_convs
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.coordinates import with_coordinates
from detcfg.layers.norm import GNConfig, NormConfig


@frozen(kw_only=True)
class SOLOV2MaskFeatModuleConfig(ModuleConfig):
    """Levels of a pyramid brought to the finest one's size and added up (SOLOv2, section 3.2).

    Wang et al., 2020, https://arxiv.org/abs/2003.10152. Follows `MaskFeatModule` in
    mmdet/models/dense_heads/solov2_head.py.
    """

    in_channels: PositiveInt = derived()
    """Channels of every feature map."""
    feat_channels: PositiveInt = 128
    """Channels of the hidden layers."""
    start_level: NonNegativeInt = 0
    """The first level in use."""
    end_level: IndexOrLast = 3
    """The last level in use, which sees its coordinates too."""
    out_channels: PositiveInt = 256
    """E: channels of the map that comes out."""
    mask_stride: PositiveInt = derived()
    """Pixels of the image to one of that map: the stride of the pyramid's finest level."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""

    def wired(self) -> Self:
        if self.end_level < self.start_level:
            raise ConfigError(f"end_level is {self.end_level}, but start_level is {self.start_level}.")
        return self

    def build(self) -> SOLOV2MaskFeatModule:
        return SOLOV2MaskFeatModule(self.resolved())


class SOLOV2MaskFeatModule(nn.Module):
    """Level i goes through i convolutions, each followed by doubling."""

    def __init__(self, config: SOLOV2MaskFeatModuleConfig) -> None:
        super().__init__()
        self.start_level = config.start_level
        self.end_level = config.end_level
        self.convs_all_levels = nn.ModuleList(
            self._convs(config, level) for level in range(config.start_level, config.end_level + 1)
        )
        self.conv_pred = ConvModule(
            config.feat_channels,
            config.out_channels,
            1,
            conv_cfg=config.conv_cfg,
            norm_cfg=config.norm_cfg,
        )
        init_convs(self)

    def _convs(self, config: SOLOV2MaskFeatModuleConfig, level: int) -> nn.Sequential:
        convs = nn.Sequential()
        for i in range(max(level, 1)):
            in_channels = config.in_channels + self._added_channels(level) if i == 0 else config.feat_channels
            conv = ConvModule(
                in_channels,
                config.feat_channels,
                3,
                padding=1,
                conv_cfg=config.conv_cfg,
                norm_cfg=config.norm_cfg,
            )
            convs.add_module(f"conv{i}", conv)
            if level > 0:
                convs.add_module(f"upsample{i}", nn.Upsample(scale_factor=2, mode="bilinear"))
        return convs

    def _added_channels(self, level: int) -> int:
        """Coordinates on the last level, unless it is the finest."""
        return 2 if level == self.end_level and level > 0 else 0

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        used = features[self.start_level : self.end_level + 1]
        maps: list[Tensor] = []
        for level, (x, convs) in enumerate(zip(used, self.convs_all_levels, strict=True), self.start_level):
            maps.append(convs(with_coordinates(x) if self._added_channels(level) else x))
        summed: Tensor = self.conv_pred(torch.stack(maps).sum(dim=0))
        return summed
