"""Balanced feature pyramid (mmdet/models/necks/bfp.py).

Shapes: feature maps (B, C, H_i, W_i), finest first, to maps of the same shapes.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.config import ConfigError, is_unset
from detcfg.config.ranges import NonNegativeInt
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import xavier_init
from detcfg.layers.non_local import NonLocal2dConfig
from detcfg.layers.norm import NormConfig
from detcfg.necks.base import Neck, NeckConfig


@frozen(kw_only=True)
class BFPConfig(NeckConfig):
    """The neck of Libra R-CNN (Pang et al., 2019, https://arxiv.org/abs/1904.02701).

    The mean of all levels, refined, is added to each. It goes behind a pyramid, all of whose levels have
    one width.
    """

    refine_level: NonNegativeInt = 2
    """Index of the level at whose size the mean is taken."""
    refine_type: Literal["conv", "non_local"] | None = None
    """What refines the mean: a convolution or a non-local block; None: nothing."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""

    def wired(self) -> Self:
        wired = super().wired()
        if is_unset(wired.in_channels):
            return wired
        if len(set(wired.in_channels)) != 1:
            raise ConfigError(
                f"in_channels is {wired.in_channels}, but the levels are added up, so they need one width. "
                "Put a pyramid before it."
            )
        if wired.refine_level >= len(wired.in_channels):
            raise ConfigError(
                f"refine_level is {wired.refine_level}, but in_channels has {len(wired.in_channels)} levels "
                f"{wired.in_channels}."
            )
        return wired

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return self.in_channels

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return self.in_strides

    def build(self) -> BFP:
        return BFP(self.resolved())


class BFP(Neck):
    """Gathers the levels, refines their mean and scatters it again."""

    def __init__(self, config: BFPConfig) -> None:
        super().__init__()
        self.refine_level = config.refine_level
        channels = config.in_channels[0]
        self.refine: nn.Module = nn.Identity()
        if config.refine_type == "conv":
            self.refine = ConvModule(
                channels, channels, 3, padding=1, conv_cfg=config.conv_cfg, norm_cfg=config.norm_cfg
            )
        elif config.refine_type == "non_local":
            self.refine = NonLocal2dConfig(
                reduction=1, use_scale=False, conv_cfg=config.conv_cfg, norm_cfg=config.norm_cfg
            ).build_for(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                xavier_init(module, distribution="uniform")

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        size = features[self.refine_level].shape[2:]
        gathered = [resized(x, size, shrink=i < self.refine_level) for i, x in enumerate(features)]
        balanced: Tensor = self.refine(torch.stack(gathered).mean(dim=0))
        return tuple(
            x + resized(balanced, x.shape[2:], shrink=i >= self.refine_level) for i, x in enumerate(features)
        )


def resized(x: Tensor, size: torch.Size, *, shrink: bool) -> Tensor:
    """(B, C, H, W) to (B, C, *size): the maxima of its parts, or its nearest values."""
    if shrink:
        return F.adaptive_max_pool2d(x, (size[0], size[1]))
    return F.interpolate(x, size=size, mode="nearest")
