"""Pyramid of a high-resolution network (mmdet/models/necks/hrfpn.py).

Shapes: (B, in_channels[i], H_i, W_i), finest first, to `num_outs` maps (B, out_channels, H_j, W_j).
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.config.ranges import PositiveInt
from detcfg.layers.checkpoint import recomputed
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import caffe2_xavier_init
from detcfg.necks.base import Neck, NeckConfig, NumLevels


@frozen(kw_only=True)
class HRFPNConfig(NeckConfig):
    """All branches at the finest resolution, pooled to a pyramid (https://arxiv.org/abs/1904.04514)."""

    out_channels: PositiveInt = 256
    """Channels of each feature map that comes out."""
    num_outs: NumLevels = 5
    """Feature maps that come out."""
    pooling_type: Literal["AVG", "MAX"] = "AVG"
    """How the finest map is pooled to each level."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    with_cp: bool = False
    """Activation (gradient) checkpointing: recompute activations in the backward pass."""
    stride: PositiveInt = 1
    """Stride of the convolutions that give the levels."""

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.out_channels,) * self.num_outs

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return tuple(self.in_strides[0] * self.stride * 2**level for level in range(self.num_outs))

    def build(self) -> HRFPN:
        return HRFPN(self.resolved())


class HRFPN(Neck):
    """`reduction_conv` mixes the enlarged branches, `fpn_convs` smooth each pooled level."""

    def __init__(self, config: HRFPNConfig) -> None:
        super().__init__()
        self.with_cp = config.with_cp
        self.pool = F.max_pool2d if config.pooling_type == "MAX" else F.avg_pool2d
        out = config.out_channels
        self.reduction_conv = ConvModule(
            sum(config.in_channels), out, 1, conv_cfg=config.conv_cfg, act_cfg=None
        )
        self.fpn_convs = nn.ModuleList(
            ConvModule(out, out, 3, stride=config.stride, padding=1, conv_cfg=config.conv_cfg, act_cfg=None)
            for _ in range(config.num_outs)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                caffe2_xavier_init(module)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        finest = features[0].shape[2:]
        enlarged = [F.interpolate(x, size=finest, mode="bilinear") for x in features[1:]]
        merged = self._run(self.reduction_conv, torch.cat([features[0], *enlarged], dim=1))
        pooled = [merged] + [self.pool(merged, 2**level, 2**level) for level in range(1, len(self.fpn_convs))]
        return tuple(self._run(conv, x) for conv, x in zip(self.fpn_convs, pooled, strict=True))

    def _run(self, conv: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = recomputed(conv, x) if self.with_cp and x.requires_grad else conv(x)
        return out
