"""RetinaNet's head with guided anchors.

Shapes: B images; features are (B, C, H_i, W_i); one anchor at each place.
"""

from __future__ import annotations

from typing import cast

from attrs import field, frozen, validators
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.approx_max_iou import ApproxMaxIoUAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.heads.anchor_based.guided_anchor_head import GuidedAnchorHead, GuidedAnchorHeadConfig
from detcfg.heads.dense.towers import init_classifier, tower_of
from detcfg.layers.conv import ConvConfig
from detcfg.layers.feature_adaption import FeatureAdaption
from detcfg.layers.norm import NormConfig
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig


@frozen(kw_only=True)
class GARetinaHeadConfig(GuidedAnchorHeadConfig):
    """Guided anchoring on RetinaNet (Wang et al., 2019, https://arxiv.org/abs/1901.03278).

    Follows mmdet/models/dense_heads/ga_retina_head.py.
    """

    stacked_convs: int = field(default=4, validator=validators.ge(0))
    """Layers of the stack for classes and locations, and of that for boxes and shapes."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""
    approx_anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        octave_base_scale=4, scales_per_octave=3, ratios=(0.5, 1.0, 2.0)
    )
    """The shapes by which a square's overlap with an object is judged."""
    square_anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(ratios=(1.0,), scales=(4.0,))
    """The square at each place."""
    ga_assigner: ApproxMaxIoUAssignerConfig = ApproxMaxIoUAssignerConfig(
        pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0.4
    )
    """Which squares learn the shape of which object. It is not told of ignored boxes."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.5)
    """Which anchors learn which object."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """The loss of the class scores; also says how scores become probabilities."""
    loss_bbox: LossConfig = SmoothL1LossConfig(beta=0.04)
    """The loss of the boxes."""

    def build(self) -> GARetinaHead:
        return GARetinaHead(self.resolved())


class GARetinaHead(GuidedAnchorHead):
    """Two stacks, at the end of each of which a deformable convolution looks where the anchor is."""

    def _init_layers(self, config: GuidedAnchorHeadConfig) -> None:
        config = cast("GARetinaHeadConfig", config)
        self.cls_convs, self.reg_convs = tower_of(config), tower_of(config)
        channels = config.feat_channels if config.stacked_convs else config.in_channels
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
