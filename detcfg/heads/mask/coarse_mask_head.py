"""The mask head of PointRend, which predicts coarse masks.

Shapes: P rois; S the side of pooled features, M that of a mask; K classes.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from attrs import field, frozen, validators
from torch import Tensor, nn

from detcfg.config import ConfigError
from detcfg.config.ranges import NumLayers, OneOrMoreLayers, PositiveInt
from detcfg.heads.mask.fcn_mask_head import FCNMaskHead, FCNMaskHeadConfig
from detcfg.layers.conv import Conv2dConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import constant_init, xavier_init
from detcfg.layers.upsample import UpsampleConfig


@frozen(kw_only=True)
class CoarseMaskHeadConfig(FCNMaskHeadConfig):
    """The coarse head of PointRend (Kirillov et al., 2020, https://arxiv.org/abs/1912.08193).

    Follows mmdet/models/roi_heads/mask_heads/coarse_mask_head.py.
    """

    num_convs: NumLayers = 0
    """Convolutions before the downsampling."""
    upsample_cfg: UpsampleConfig | None = field(default=None, validator=validators.instance_of(type(None)))
    """None: this head downsamples, and an upsampling would have no effect."""
    num_fcs: OneOrMoreLayers = 2
    """Linear layers before the logits."""
    fc_out_channels: PositiveInt = 1024
    """Channels of the linear layers."""
    downsample_factor: PositiveInt = 2
    """By which the features are downsampled, S to M."""

    def wired(self) -> Self:
        if self.predictor_cfg != Conv2dConfig():
            raise ConfigError(
                f"predictor_cfg is {type(self.predictor_cfg).__name__}, but the last layer of a CoarseMaskHead is "
                "linear: it would have no effect. Leave it out."
            )
        return super().wired()

    @property
    def drawn_size(self) -> int:
        return self.convolved_size // self.downsample_factor

    def build(self) -> CoarseMaskHead:
        return CoarseMaskHead(self.resolved())


class CoarseMaskHead(FCNMaskHead):
    """A strided convolution downsamples the features, and linear layers on all of them predict the mask."""

    def add_predictor(self, config: FCNMaskHeadConfig, channels: int) -> None:
        assert isinstance(config, CoarseMaskHeadConfig)
        self.downsample_conv = None
        if config.downsample_factor > 1:
            self.downsample_conv = ConvModule(
                channels,
                config.conv_out_channels,
                config.downsample_factor,
                stride=config.downsample_factor,
                conv_cfg=config.conv_cfg,
                norm_cfg=config.norm_cfg,
            )
            channels = config.conv_out_channels
        area, width = config.drawn_size**2, config.fc_out_channels
        self.fcs = nn.ModuleList(
            nn.Linear(width if index else channels * area, width) for index in range(config.num_fcs)
        )
        # As in MMDetection, there are masks of all classes even if `class_agnostic`: the first is the shared one.
        self.fc_logits = nn.Linear(width, config.num_classes * area)
        for fc in self.fcs:
            xavier_init(fc)
        constant_init(self.fc_logits, 0.001)

    def draw(self, convolved: Tensor) -> Tensor:
        if self.downsample_conv is not None:
            convolved = self.downsample_conv(convolved)
        x = convolved.flatten(1)
        for fc in self.fcs:
            x = F.relu(fc(x))
        logits: Tensor = self.fc_logits(x)
        return torch.unflatten(logits, 1, (-1, self.mask_size, self.mask_size))
