"""The head of ATSS.

Shapes: B images; features are (B, C, H_i, W_i); A anchors over all levels, a at each place; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import field, frozen, validators
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.atss import ATSSAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.boxes.geometry import centres
from detcfg.boxes.nms import NMSConfig
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.anchor_targets import positives
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import flatten_levels
from detcfg.heads.dense.point_targets import centerness
from detcfg.heads.dense.towers import init_classifier, init_convs, tower_of
from detcfg.layers.conv import ConvConfig
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class ATSSHeadConfig(AnchorHeadConfig):
    """One anchor at each place, positives by the statistics of each object (Zhang et al., 2019).

    https://arxiv.org/abs/1912.02424. Follows mmdet/models/dense_heads/atss_head.py.
    """

    pred_kernel_size: int = 3
    """Kernel of the predictors."""
    stacked_convs: int = field(default=4, validator=validators.ge(0))
    """Layers of each stack."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        ratios=(1.0,), octave_base_scale=8, scales_per_octave=1
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = DeltaXYWHBBoxCoderConfig(target_stds=(0.1, 0.1, 0.2, 0.2))
    """How a box is written relative to its prior."""
    reg_decoded_bbox: Literal[True] = True
    """Whether the loss compares boxes rather than their codes."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """The loss of the class scores; also says how scores become probabilities."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=2.0)
    """The loss of the boxes."""
    loss_centerness: LossConfig = CrossEntropyLossConfig(use_sigmoid=True)
    """The loss of the centerness."""
    assigner: AssignerConfig = ATSSAssignerConfig(topk=9)
    """Which priors learn which object."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def build(self) -> ATSSHead:
        return ATSSHead(self.resolved())


class ATSSHead(AnchorHead):
    """Two stacks of convolutions; the one for boxes also says how central an anchor is in its object."""

    def __init__(self, config: ATSSHeadConfig) -> None:
        super().__init__(config)
        self.cls_convs, self.reg_convs = tower_of(config), tower_of(config)
        self.atss_cls = self._predictor(config, self.cls_out_channels)
        self.atss_reg = self._predictor(config, 4)
        self.atss_centerness = self._predictor(config, 1)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)
        self.loss_centerness = config.loss_centerness.build()
        init_convs(self)
        init_classifier(self.atss_cls)

    def _predictor(self, config: ATSSHeadConfig, channels: int) -> nn.Conv2d:
        size = config.pred_kernel_size
        return nn.Conv2d(config.feat_channels, self.num_base_priors * channels, size, padding=size // 2)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        boxes = self.reg_convs(feature)
        codes = self.scales[level](self.atss_reg(boxes)).float()
        return self.atss_cls(self.cls_convs(feature)), codes, self.atss_centerness(boxes)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds, centernesses = predictions
        anchors = self.anchors(cls_scores)
        learnt = self.targets(anchors, cls_scores, batch, targets)
        avg_factor = shared_factor(learnt.avg_factor, cls_scores[0])
        loss_cls = self.loss_cls(
            self.flat_scores(cls_scores).flatten(0, 1),
            learnt.labels.flatten(),
            learnt.label_weights.flatten(),
            avg_factor=avg_factor,
        )
        positive, priors = positives(learnt, anchors, self.num_classes)
        boxes = self.bbox_coder.decode(priors, self.flat_codes(bbox_preds)[positive])
        wanted = learnt.bbox_targets[positive]
        quality = anchor_centerness(priors, wanted)
        loss_bbox = self.loss_bbox(boxes, wanted, quality, avg_factor=shared_factor(quality.sum(), quality))
        loss_centerness = self.loss_centerness(
            flatten_levels(centernesses, 1).squeeze(-1)[positive], quality, avg_factor=avg_factor
        )
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox, "loss_centerness": loss_centerness}


def anchor_centerness(anchors: Tensor, boxes: Tensor) -> Tensor:
    """(N,): how central each anchor's centre (N, 4) is in its box (N, 4)."""
    return centerness(DistancePointBBoxCoderConfig().encode(centres(anchors), boxes))
