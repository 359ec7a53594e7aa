"""The features that CondInst's masks are made of.

Shapes: features are (B, C, H_i, W_i), finest first; one map (B, E, H_s, W_s) comes out.
"""

from __future__ import annotations

from typing import Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, ModuleConfig, derived
from detcfg.config.ranges import IndexOrLast, NonNegativeInt, NumLayers, PositiveInt
from detcfg.heads.dense.towers import conv_tower, init_convs
from detcfg.layers.aligned_bilinear import aligned_bilinear
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import kaiming_init
from detcfg.layers.norm import BNConfig, NormConfig


@frozen(kw_only=True)
class CondInstMaskFeatModuleConfig(ModuleConfig):
    """Levels of a pyramid brought to one size and added up (Tian et al., 2020, section 3.2).

    https://arxiv.org/abs/2003.05664. Follows `MaskFeatModule` in
    mmdet/models/dense_heads/condinst_head.py.
    """

    in_channels: PositiveInt = derived()
    """Channels of every feature map."""
    feat_channels: PositiveInt = 128
    """Channels of the hidden layers."""
    start_level: NonNegativeInt = 0
    """s: the first level in use."""
    end_level: IndexOrLast = 2
    """The last level in use."""
    out_channels: PositiveInt = 8
    """E: channels of the map that comes out."""
    mask_stride: PositiveInt = derived()
    """Pixels of the image to one of that map: the stride of the first level in use."""
    num_stacked_convs: NumLayers = 4
    """Layers after the sum."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = BNConfig()
    """The norm after each convolution; None: a bias instead."""

    def wired(self) -> Self:
        if self.end_level < self.start_level:
            raise ConfigError(f"end_level is {self.end_level}, but start_level is {self.start_level}.")
        return self

    def build(self) -> CondInstMaskFeatModule:
        return CondInstMaskFeatModule(self.resolved())


class CondInstMaskFeatModule(nn.Module):
    """A convolution on each level, and a tower on their sum."""

    def __init__(self, config: CondInstMaskFeatModuleConfig) -> None:
        super().__init__()
        self.levels = slice(config.start_level, config.end_level + 1)
        self.convs_all_levels = nn.ModuleList(
            self._conv(config, level) for level in range(config.start_level, config.end_level + 1)
        )
        self.conv_branch = conv_tower(
            config.feat_channels,
            config.feat_channels,
            [config.conv_cfg] * config.num_stacked_convs,
            norm_cfg=config.norm_cfg,
            bias=False,
        )
        self.conv_pred = nn.Conv2d(config.feat_channels, config.out_channels, 1)
        init_convs(self)
        kaiming_init(self.conv_pred, a=1, distribution="uniform")

    def _conv(self, config: CondInstMaskFeatModuleConfig, level: int) -> nn.Sequential:
        conv = ConvModule(
            config.in_channels,
            config.feat_channels,
            3,
            padding=1,
            conv_cfg=config.conv_cfg,
            norm_cfg=config.norm_cfg,
            bias=False,
        )
        named = nn.Sequential()
        named.add_module(f"conv{level}", conv)
        return named

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        first, *others = (
            conv(x) for conv, x in zip(self.convs_all_levels, features[self.levels], strict=True)
        )
        summed: Tensor = first
        for maps in others:
            summed = summed + aligned_bilinear(maps, summed.shape[-2] // maps.shape[-2])
        predicted: Tensor = self.conv_pred(self.conv_branch(summed))
        return predicted
