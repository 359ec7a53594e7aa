"""The necks of YOLOX and RTMDet (mmdet/models/necks/yolox_pafpn.py, cspnext_pafpn.py).

Shapes: (B, in_channels[i], H_i, W_i), finest first, to (B, out_channels, H_i, W_i).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.config.ranges import NumLayers, PositiveInt
from detcfg.layers.activation import ActivationConfig, SiLUConfig
from detcfg.layers.conv import ConvConfig
from detcfg.layers.csp_layer import YOLO_NORM, CSPLayer, Make, init_yolo
from detcfg.layers.norm import NormConfig
from detcfg.necks.base import Neck, NeckConfig


@frozen(kw_only=True)
class YOLOXPAFPNConfig(NeckConfig):
    """Path aggregation with cross-stage partial layers (Ge et al., 2021, https://arxiv.org/abs/2107.08430)."""

    out_channels: PositiveInt = 256
    """Channels of each feature map that comes out."""
    num_csp_blocks: NumLayers = 3
    """Blocks of each cross-stage partial layer."""
    use_depthwise: bool = False
    """Whether 3 x 3 convolutions are depthwise separable."""
    upsample_mode: Literal["nearest", "bilinear"] = "nearest"
    """Interpolation in the top-down path; MMDetection's `upsample_cfg`."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = YOLO_NORM
    """The norm after each convolution; None: a bias instead."""
    act_cfg: ActivationConfig | None = SiLUConfig()
    """The activation after each convolution; None: none."""

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.out_channels,) * len(self.in_channels)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return self.in_strides

    @property
    def make(self) -> Make:
        """How convolutions are made."""
        return Make(
            use_depthwise=self.use_depthwise,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )

    def csp_layer(self, in_channels: int, out_channels: int) -> CSPLayer:
        """The layer that merges two levels."""
        return CSPLayer(
            in_channels, out_channels, self.make, num_blocks=self.num_csp_blocks, add_identity=False
        )

    def out_conv(self, in_channels: int) -> nn.Module:
        """The convolution of a level to `out_channels`."""
        return self.make.conv(in_channels, self.out_channels, 1)

    def build(self) -> YOLOXPAFPN:
        return YOLOXPAFPN(self.resolved())


class YOLOXPAFPN(Neck):
    """A top-down path from the coarsest level to the finest, and a bottom-up path back."""

    def __init__(self, config: YOLOXPAFPNConfig) -> None:
        super().__init__()
        widths, make = config.in_channels, config.make
        self.upsample_mode = config.upsample_mode
        self.reduce_layers, self.top_down_blocks = nn.ModuleList(), nn.ModuleList()
        for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True):
            self.reduce_layers.append(make.conv(coarse, fine, 1))
            self.top_down_blocks.append(config.csp_layer(2 * fine, fine))
        self.downsamples, self.bottom_up_blocks = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in pairwise(widths):
            self.downsamples.append(make.around(fine, fine, 3, stride=2))
            self.bottom_up_blocks.append(config.csp_layer(2 * fine, coarse))
        self.out_convs = nn.ModuleList(config.out_conv(width) for width in widths)
        init_yolo(self)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *finer_levels = reversed(features)
        laterals: list[Tensor] = []
        steps = zip(finer_levels, self.reduce_layers, self.top_down_blocks, strict=True)
        for finer, reduce, block in steps:
            laterals.insert(0, reduce(x))
            enlarged = F.interpolate(laterals[0], scale_factor=2, mode=self.upsample_mode)
            x = block(torch.cat((enlarged, finer), dim=1))
        outs = [x]
        for lateral, shrink, block in zip(laterals, self.downsamples, self.bottom_up_blocks, strict=True):
            outs.append(block(torch.cat((shrink(outs[-1]), lateral), dim=1)))
        return tuple(conv(out) for conv, out in zip(self.out_convs, outs, strict=True))
