"""The head of ATSS.

Shapes: B images; features are (B, C, H_i, W_i); A anchors over all levels, a at each location; K classes; P
positives of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.atss import ATSSAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.geometry import centres, side_distances
from detcfg.boxes.nms import NMSConfig
from detcfg.config.ranges import OddInt
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import flatten_levels
from detcfg.heads.dense.point_targets import centerness
from detcfg.heads.dense.towers import TowerConfig, init_classifier, init_convs
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class ATSSHeadConfig(TowerConfig, AnchorHeadConfig):
    """One anchor at each location, positives by the statistics of each object (Zhang et al., 2019).

    https://arxiv.org/abs/1912.02424. Follows mmdet/models/dense_heads/atss_head.py.
    """

    pred_kernel_size: OddInt = 3
    """Kernel of the predictors."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        ratios=(1.0,), octave_base_scale=8, scales_per_octave=1
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = DeltaXYWHBBoxCoderConfig(target_stds=(0.1, 0.1, 0.2, 0.2))
    """Encodes ground-truth boxes as deltas to their priors, and decodes predicted deltas."""
    reg_decoded_bbox: Literal[True] = True
    """`loss_bbox` compares decoded boxes rather than deltas."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=2.0)
    """Box regression loss."""
    loss_centerness: LossConfig = CrossEntropyLossConfig(use_sigmoid=True)
    """Loss of the centerness."""
    assigner: AssignerConfig = ATSSAssignerConfig(topk=9)
    """Assigns ground-truth boxes to priors."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def build(self) -> ATSSHead:
        return ATSSHead(self.resolved())


class ATSSHead(AnchorHead):
    """Two towers; that for boxes also says how central an anchor is in its object."""

    def __init__(self, config: ATSSHeadConfig) -> None:
        super().__init__(config)
        self.cls_convs, self.reg_convs = config.tower(), config.tower()
        self.atss_cls = self._predictor(config, self.cls_out_channels)
        self.atss_reg = self._predictor(config, 4)
        self.atss_centerness = self._predictor(config, 1)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)
        self.loss_centerness = config.loss_centerness.build()
        init_convs(self)
        init_classifier(self.atss_cls)

    def _predictor(self, config: ATSSHeadConfig, channels: int) -> nn.Conv2d:
        size = config.pred_kernel_size
        return nn.Conv2d(config.tower_channels, self.num_base_priors * channels, size, padding=size // 2)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        boxes = self.reg_convs(feature)
        deltas = self.scales[level](self.atss_reg(boxes))
        return self.atss_cls(self.cls_convs(feature)), deltas, self.atss_centerness(boxes)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds, centernesses = predictions
        anchors = self.priors(cls_scores)
        anchor_targets = self.get_targets(anchors, cls_scores, batch, targets)
        avg_factor = shared_factor(anchor_targets.avg_factor, cls_scores[0])
        loss_cls = self.loss_cls(
            self.flat_scores(cls_scores).flatten(0, 1),
            anchor_targets.labels.flatten(),
            anchor_targets.label_weights.flatten(),
            avg_factor=avg_factor,
        )
        positive, priors = anchor_targets.positive, anchor_targets.priors_of(anchors)
        boxes = self.bbox_coder.decode(priors, self.flat_deltas(bbox_preds)[positive])
        gt_boxes = anchor_targets.bbox_targets[positive]
        quality = anchor_centerness(priors, gt_boxes)
        loss_bbox = self.loss_bbox(boxes, gt_boxes, quality, avg_factor=shared_factor(quality.sum(), quality))
        loss_centerness = self.loss_centerness(
            flatten_levels(centernesses, 1).squeeze(-1)[positive], quality, avg_factor=avg_factor
        )
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox, "loss_centerness": loss_centerness}


def anchor_centerness(anchors: Tensor, boxes: Tensor) -> Tensor:
    """(P,): how central the centre of each anchor (P, 4) is in its box (P, 4)."""
    return centerness(side_distances(centres(anchors), boxes))
