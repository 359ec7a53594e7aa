"""The head of RetinaNet.

Shapes: B images; features are (B, C, H_i, W_i); a anchors at each location, K classes.
"""

from __future__ import annotations

from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.towers import TowerConfig, init_classifier, init_convs
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.l1 import L1LossConfig


@frozen(kw_only=True)
class RetinaHeadConfig(TowerConfig, AnchorHeadConfig):
    """Two towers, one for classes and one for boxes (Lin et al., 2017).

    https://arxiv.org/abs/1708.02002. Follows mmdet/models/dense_heads/retina_head.py.
    """

    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        octave_base_scale=4, scales_per_octave=3, ratios=(0.5, 1.0, 2.0)
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = L1LossConfig()
    """Box regression loss."""

    def build(self) -> RetinaHead:
        return RetinaHead(self.resolved())


class RetinaHead(AnchorHead):
    """The same layers for every level."""

    def __init__(self, config: RetinaHeadConfig) -> None:
        super().__init__(config)
        self.cls_convs, self.reg_convs = config.tower(), config.tower()
        channels = config.tower_channels
        self.retina_cls = nn.Conv2d(channels, self.num_base_priors * self.cls_out_channels, 3, padding=1)
        self.retina_reg = nn.Conv2d(
            channels, self.num_base_priors * self.bbox_coder.encode_size, 3, padding=1
        )
        init_convs(self)
        init_classifier(self.retina_cls)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        del level
        return self.retina_cls(self.cls_convs(feature)), self.retina_reg(self.reg_convs(feature))
