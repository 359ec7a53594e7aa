"""Path aggregation network (mmdet/models/necks/pafpn.py).

Shapes: (B, in_channels[i], H_i, W_i), finest first, to `num_outs` maps (B, out_channels, H_j, W_j).
"""

from __future__ import annotations

from attrs import frozen
from torch import Tensor, nn

from detcfg.necks.fpn import FPN, FPNConfig


@frozen(kw_only=True)
class PAFPNConfig(FPNConfig):
    """A pyramid that also goes back up (Liu et al., 2018, https://arxiv.org/abs/1803.01534)."""

    def build(self) -> PAFPN:
        return PAFPN(self.resolved())


class PAFPN(FPN):
    """Behind an FPN, `downsample_convs` add each level to the coarser one and `pafpn_convs` smooth the sums."""

    def __init__(self, config: PAFPNConfig) -> None:
        super().__init__(config)
        out, coarser = config.out_channels, config.used_levels - 1
        self.downsample_convs = nn.ModuleList(self._conv(config, out, 3, stride=2) for _ in range(coarser))
        self.pafpn_convs = nn.ModuleList(self._conv(config, out, 3) for _ in range(coarser))
        self._init_weights()

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        used = features[self.start_level : self.stop_level]
        laterals = self.merged([conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)])
        sums = self.accumulated([conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)])
        outs = sums[:1] + [conv(x) for conv, x in zip(self.pafpn_convs, sums[1:], strict=True)]
        return self.with_extra_levels(outs, laterals[-1], used[-1])

    def accumulated(self, levels: list[Tensor]) -> list[Tensor]:
        """Add each level, strided, to the coarser one above it."""
        sums = levels[:1]
        for coarser, convolve in zip(levels[1:], self.downsample_convs, strict=True):
            sums.append(coarser + convolve(sums[-1]))
        return sums
