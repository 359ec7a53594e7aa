"""What most detectors begin with: feature maps by a backbone and a neck.

Shapes: images (B, 3, H, W); features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from torch import Tensor

from detcfg.backbones.base import BackboneConfig
from detcfg.detectors.base import Detector, DetectorConfig
from detcfg.necks.base import NeckConfig


class BackboneNeckDetector(Detector):
    """Its heads read `neck(backbone(images))`, or the backbone's maps where there is no neck."""

    def __init__(self, config: DetectorConfig, backbone: BackboneConfig, neck: NeckConfig | None) -> None:
        super().__init__(config)
        self.backbone = backbone.build()
        self.neck = None if neck is None else neck.build()

    def extract_features(self, images: Tensor) -> tuple[Tensor, ...]:
        features: tuple[Tensor, ...] = self.backbone(images)
        return features if self.neck is None else self.neck(features)
