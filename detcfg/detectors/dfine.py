"""D-FINE: RT-DETR's design with queries that refine distributions of their boxes' sides.

Shapes: images (B, 3, H, W); features are tuples of (B, C_i, H_i, W_i), finest first.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.hgnetv2 import HGNetV2Config
from detcfg.detectors.rtdetr import RTDETR, RTDETRConfig
from detcfg.heads.query.dfine_transformer import DFINETransformerConfig
from detcfg.necks.hybrid_encoder import HybridEncoderConfig


@frozen(kw_only=True)
class DFINEConfig(RTDETRConfig):
    """Backbone, hybrid encoder and decoder (Peng et al., 2024, https://arxiv.org/abs/2410.13842).

    Pixels are divided by 255, without mean and std. Images keep their aspect ratio; each is padded to a multiple of 32.
    """

    backbone: BackboneConfig = HGNetV2Config()
    """Image to feature maps."""
    encoder: HybridEncoderConfig = HybridEncoderConfig()
    """Feature maps to feature maps of one width."""
    decoder: DFINETransformerConfig = DFINETransformerConfig()
    """Feature maps to detections."""

    def build(self) -> DFINE:
        return DFINE(self.resolved())


class DFINE(RTDETR):
    """`decoder(encoder(backbone(images)))`, as `RTDETR`, with a `DFINETransformer`."""
