"""The neck of RTMDet (mmdet/models/necks/cspnext_pafpn.py).

Shapes: (B, in_channels[i], H_i, W_i), finest first, to (B, out_channels, H_i, W_i).
"""

from __future__ import annotations

from attrs import frozen
from torch import nn

from detcfg.config.ranges import PositiveFloat
from detcfg.layers.csp_layer import CSPLayer
from detcfg.necks.yolox_pafpn import YOLOXPAFPN, YOLOXPAFPNConfig


@frozen(kw_only=True)
class CSPNeXtPAFPNConfig(YOLOXPAFPNConfig):
    """YOLOX's neck, of CSPNeXt's blocks (Lyu et al., 2022, https://arxiv.org/abs/2212.07784)."""

    expand_ratio: PositiveFloat = 0.5
    """The hidden channels of a cross-stage partial layer's halves, as a fraction of the output channels."""

    def csp_layer(self, in_channels: int, out_channels: int) -> CSPLayer:
        return CSPLayer(
            in_channels,
            out_channels,
            self.make,
            expand_ratio=self.expand_ratio,
            num_blocks=self.num_csp_blocks,
            add_identity=False,
            use_cspnext_block=True,
        )

    def out_conv(self, in_channels: int) -> nn.Module:
        return self.make.around(in_channels, self.out_channels, 3)

    def build(self) -> CSPNeXtPAFPN:
        return CSPNeXtPAFPN(self.resolved())


class CSPNeXtPAFPN(YOLOXPAFPN):
    """YOLOX's neck with the layers of its config."""
