"""Recursive feature pyramid (mmdet/models/necks/rfp.py).

Shapes: the image (B, 3, H, W) and (B, in_channels[i], H_i, W_i), finest first, to `num_outs` maps
(B, out_channels, H_j, W_j).
"""

from __future__ import annotations

from typing import Self, cast

import torch
import torch.nn.functional as F
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.backbones.detectors_resnet import DetectoRSResNet, DetectoRSResNetConfig
from detcfg.config import ConfigError, is_unset
from detcfg.config.ranges import NonEmpty, OneOrMoreLayers, PositiveInt
from detcfg.layers.init import constant_init, kaiming_init
from detcfg.necks.fpn import FPN, FPNConfig


@frozen(kw_only=True)
class RFPConfig(FPNConfig):
    """The pyramid of DetectoRS (Qiao et al., 2020, https://arxiv.org/abs/2006.02334).

    Its feature maps are fed back into further backbones, whose maps are blended in.
    """

    rfp_steps: OneOrMoreLayers = 2
    """Passes through a backbone, that of the detector included."""
    rfp_backbone: DetectoRSResNetConfig = DetectoRSResNetConfig()
    """The backbone of each further pass."""
    aspp_out_channels: PositiveInt = 64
    """Channels of each branch of the atrous pooling through which features are fed back."""
    aspp_dilations: NonEmpty[PositiveInt] = (1, 3, 6, 1)
    """Dilations of its branches; the last, 1, reads the mean of the map."""

    @property
    def reads_image(self) -> bool:
        return True

    def wired(self) -> Self:
        wired = super().wired()
        if len(self.aspp_dilations) < 2 or self.aspp_dilations[-1] != 1:
            raise ConfigError(
                f"aspp_dilations is {self.aspp_dilations}; it has two values or more, the last 1."
            )
        backbone, channels = wired.rfp_backbone, wired.aspp_out_channels * len(wired.aspp_dilations)
        if backbone.rfp_inplanes not in (None, channels):
            raise ConfigError(
                f"rfp_backbone.rfp_inplanes is {backbone.rfp_inplanes}, but aspp_out_channels="
                f"{wired.aspp_out_channels} for each of aspp_dilations={wired.aspp_dilations} makes it {channels}. "
                "Leave it out."
            )
        if not is_unset(wired.in_channels) and backbone.feature_channels != wired.in_channels:
            raise ConfigError(
                f"rfp_backbone.feature_channels is {backbone.feature_channels}, but in_channels is "
                f"{wired.in_channels}. Give the same stages and widths as the detector's backbone has."
            )
        return evolve(wired, rfp_backbone=evolve(backbone, rfp_inplanes=channels))

    def build(self) -> RFP:
        return RFP(self.resolved())


class RFP(FPN):
    """An FPN, further backbones `rfp_modules`, and `rfp_weight`, which blends each pass with those before."""

    def __init__(self, config: RFPConfig) -> None:
        super().__init__(config)
        self.rfp_modules = nn.ModuleList(config.rfp_backbone.build() for _ in range(config.rfp_steps - 1))
        self.rfp_aspp = ASPP(config.out_channels, config.aspp_out_channels, config.aspp_dilations)
        self.rfp_weight = nn.Conv2d(config.out_channels, 1, 1)
        constant_init(self.rfp_weight, 0)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        image, *first = features
        outs = super().forward(tuple(first))
        for module in self.rfp_modules:
            fed_back = [outs[0], *(self.rfp_aspp(x) for x in outs[1:])]
            again = super().forward(cast("DetectoRSResNet", module).rfp_forward(image, fed_back))
            shares = [self.rfp_weight(x).sigmoid() for x in again]
            outs = tuple(s * new + (1 - s) * old for s, new, old in zip(shares, again, outs, strict=True))
        return outs


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: (B, in_channels, H, W) to (B, n * out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.aspp = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
            if dilation > 1
            else nn.Conv2d(in_channels, out_channels, 1)
            for dilation in dilations
        )
        for conv in self.aspp:
            kaiming_init(conv)

    def forward(self, x: Tensor) -> Tensor:
        *convs, last = self.aspp
        outs = [F.relu(conv(x)) for conv in convs]
        mean = F.relu(last(F.adaptive_avg_pool2d(x, 1)))
        return torch.cat([*outs, mean.expand_as(outs[-1])], dim=1)
