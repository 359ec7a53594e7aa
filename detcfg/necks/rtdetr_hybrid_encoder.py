"""The hybrid encoder in RT-DETR's own form (`zoo/rtdetr/hybrid_encoder.py` of lyuwenyu/RT-DETR).

Shapes: maps (B, C_i, H_i, W_i), finest first, whose sides halve from one to the next; D hidden channels.
"""

from __future__ import annotations

from attrs import frozen
from torch import Tensor, nn

from detcfg.layers.conv_norm import ConvNorm
from detcfg.necks.hybrid_encoder import HybridEncoderConfig, VGGBlock


@frozen(kw_only=True)
class RTDETRHybridEncoderConfig(HybridEncoderConfig):
    """RT-DETR's hybrid encoder (Zhao et al., 2023, https://arxiv.org/abs/2304.08069).

    Unlike D-FINE's, fusion blocks are one CSP layer each, strided convolutions are plain ones, and both these and the
    lateral convolutions have an activation.
    """

    @property
    def mid_channels(self) -> int:
        return int(self.hidden_dim * self.expansion)

    def make_lateral(self) -> nn.Module:
        return ConvNorm(self.hidden_dim, self.hidden_dim, act_cfg=self.act_cfg)

    def make_downsample(self) -> nn.Module:
        return ConvNorm(self.hidden_dim, self.hidden_dim, 3, stride=2, act_cfg=self.act_cfg)

    def make_fusion(self) -> nn.Module:
        return CSPRepLayer(self)


class CSPRepLayer(nn.Module):
    """Two branches, one of them with blocks, that are added: 2D channels to D."""

    def __init__(self, config: HybridEncoderConfig) -> None:
        super().__init__()
        dim, mid, act = config.hidden_dim, config.mid_channels, config.act_cfg
        self.conv1 = ConvNorm(2 * dim, mid, act_cfg=act)
        self.conv2 = ConvNorm(2 * dim, mid, act_cfg=act)
        self.bottlenecks = nn.Sequential(*(VGGBlock(mid, act) for _ in range(config.num_blocks)))
        self.conv3 = nn.Identity() if mid == dim else ConvNorm(mid, dim, act_cfg=act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(self.bottlenecks(self.conv1(x)) + self.conv2(x))
        return out
