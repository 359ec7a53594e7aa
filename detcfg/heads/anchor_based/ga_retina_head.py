"""RetinaNet's head with guided anchors.

Shapes: B images; features are (B, C, H_i, W_i); one anchor at each location.
"""

from __future__ import annotations

from typing import cast

from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.approx_max_iou import ApproxMaxIoUAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.heads.anchor_based.guided_anchor_head import GuidedAnchorHead, GuidedAnchorHeadConfig
from detcfg.heads.dense.towers import TowerConfig, init_classifier
from detcfg.layers.feature_adaption import FeatureAdaption
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig


@frozen(kw_only=True)
class GARetinaHeadConfig(TowerConfig, GuidedAnchorHeadConfig):
    """Guided anchoring on RetinaNet (Wang et al., 2019, https://arxiv.org/abs/1901.03278).

    Follows mmdet/models/dense_heads/ga_retina_head.py.
    """

    approx_anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        octave_base_scale=4, scales_per_octave=3, ratios=(0.5, 1.0, 2.0)
    )
    """The shapes by which a square's overlap with an object is judged."""
    square_anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(ratios=(1.0,), scales=(4.0,))
    """The square at each location."""
    ga_assigner: ApproxMaxIoUAssignerConfig = ApproxMaxIoUAssignerConfig(
        pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0.4
    )
    """Assigns ground-truth boxes to squares, for the anchors' shapes. It is not told of ignored boxes."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.5)
    """Assigns ground-truth boxes to guided anchors."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = SmoothL1LossConfig(beta=0.04)
    """Box regression loss."""

    def build(self) -> GARetinaHead:
        return GARetinaHead(self.resolved())


class GARetinaHead(GuidedAnchorHead):
    """Two towers, behind each of which a deformable convolution looks where the anchor is."""

    def _init_layers(self, config: GuidedAnchorHeadConfig) -> None:
        config = cast("GARetinaHeadConfig", config)
        self.cls_convs, self.reg_convs = config.tower(), config.tower()
        channels = config.tower_channels
        self.conv_loc = nn.Conv2d(channels, 1, 1)
        self.conv_shape = nn.Conv2d(channels, 2, 1)
        groups = config.deform_groups
        self.feature_adaption_cls = FeatureAdaption(channels, config.feat_channels, deform_groups=groups)
        self.feature_adaption_reg = FeatureAdaption(channels, config.feat_channels, deform_groups=groups)
        self.retina_cls = nn.Conv2d(config.feat_channels, self.cls_out_channels, 3, padding=1)
        self.retina_reg = nn.Conv2d(config.feat_channels, self.bbox_coder.encode_size, 3, padding=1)
        self._init_weights()
        init_classifier(self.retina_cls)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        del level
        cls_feature, reg_feature = self.cls_convs(feature), self.reg_convs(feature)
        location, shape = self.conv_loc(cls_feature), self.conv_shape(reg_feature)
        cls_score = self.retina_cls(self.feature_adaption_cls(cls_feature, shape))
        bbox_pred = self.retina_reg(self.feature_adaption_reg(reg_feature, shape))
        return cls_score, bbox_pred, shape, location
