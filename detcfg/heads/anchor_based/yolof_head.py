"""The head of YOLOF.

Shapes: B images; the one feature map is (B, C, H, W); A anchors, a at each location; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.assigners.uniform import UniformAssignerConfig, UniformAssignment
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.nms import NMSConfig
from detcfg.config import ConfigError, derived, fill, is_unset
from detcfg.config.ranges import NumLayers, PositiveInt
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.anchor_targets import Candidates
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import sizes_of
from detcfg.heads.dense.towers import conv_tower, init_classifier, init_convs
from detcfg.layers.norm import BNConfig, NormConfig
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets

LARGE = 1e8
"""The largest exponential in the sum of two, so that it stays finite."""


@frozen(kw_only=True)
class YOLOFHeadConfig(AnchorHeadConfig):
    """One level for all sizes (Chen et al., 2021, https://arxiv.org/abs/2103.09460).

    Follows mmdet/models/dense_heads/yolof_head.py.
    """

    feat_channels: PositiveInt = derived()
    """Channels of the hidden layers: as many as come in."""
    num_cls_convs: NumLayers = 2
    """Layers of the tower for classes."""
    num_reg_convs: NumLayers = 4
    """Layers of the tower for boxes."""
    norm_cfg: NormConfig | None = BNConfig()
    """The norm after each convolution; None: a bias instead."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        ratios=(1.0,), scales=(1.0, 2.0, 4.0, 8.0, 16.0)
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = DeltaXYWHBBoxCoderConfig(add_ctr_clamp=True, ctr_clamp=32)
    """Encodes ground-truth boxes as deltas to their priors, and decodes predicted deltas."""
    reg_decoded_bbox: Literal[True] = True
    """`loss_bbox` compares decoded boxes rather than deltas."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """Classification loss. It has no background class: objectness stands in for it."""
    loss_bbox: LossConfig = GIoULossConfig()
    """Box regression loss."""
    assigner: UniformAssignerConfig = UniformAssignerConfig(pos_ignore_thr=0.15, neg_ignore_thr=0.7)
    """Assigns ground-truth boxes to priors."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def wired(self) -> Self:
        wired = super().wired()
        if not wired.loss_cls.use_sigmoid:
            raise ConfigError("loss_cls.use_sigmoid is False, but YOLOF's logits have no background class.")
        if is_unset(wired.in_strides):
            return wired
        if len(wired.in_strides) != 1:
            raise ConfigError(
                f"in_strides is {wired.in_strides}, but YOLOF reads one level. "
                "Give the backbone one of out_indices, or put DilatedEncoderConfig between them."
            )
        return fill(wired, "in_channels", feat_channels=wired.in_channels)

    def build(self) -> YOLOFHead:
        return YOLOFHead(self.resolved())


class YOLOFHead(AnchorHead):
    """Two towers; that for boxes also predicts objectness."""

    def __init__(self, config: YOLOFHeadConfig) -> None:
        super().__init__(config)
        self.uniform_assigner = config.assigner
        width, norm = config.in_channels, config.norm_cfg
        self.cls_subnet = conv_tower(width, width, [None] * config.num_cls_convs, norm_cfg=norm)
        self.bbox_subnet = conv_tower(width, width, [None] * config.num_reg_convs, norm_cfg=norm)
        self.cls_score = nn.Conv2d(width, self.num_base_priors * self.num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(width, self.num_base_priors * 4, 3, padding=1)
        self.object_pred = nn.Conv2d(width, self.num_base_priors, 3, padding=1)
        init_convs(self)
        init_classifier(self.cls_score)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        del level
        boxes = self.bbox_subnet(feature)
        classes = self.cls_score(self.cls_subnet(feature)).unflatten(1, (-1, self.num_classes))
        logits = with_objectness(classes, self.object_pred(boxes).unsqueeze(2))
        return logits.flatten(1, 2), self.bbox_pred(boxes)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions
        anchors = self.priors(cls_scores)
        deltas = self.flat_deltas(bbox_preds)
        flat = anchors[0].repeat(len(deltas), 1)
        boxes = self.bbox_coder.decode(flat, deltas.flatten(0, 1)).reshape(deltas.shape)

        def assign(candidates: Candidates, objects: Targets) -> Assignment:
            predicted = boxes[candidates.image][candidates.inds]
            return self.uniform_assigner.assign(candidates.anchors, predicted, objects)

        anchor_targets = self.target_maker(anchors, sizes_of(cls_scores), batch, targets, assign=assign)
        avg_factor = shared_factor(anchor_targets.avg_factor, boxes)
        loss_cls = self.loss_cls(
            self.flat_scores(cls_scores).flatten(0, 1),
            anchor_targets.labels.flatten(),
            anchor_targets.label_weights.flatten(),
            avg_factor=avg_factor,
        )
        pairs = [found for found in anchor_targets.assignments if isinstance(found, UniformAssignment)]
        loss_bbox = self.loss_bbox(
            torch.cat([found.pos_predicted_boxes for found in pairs]),
            torch.cat([found.target_boxes for found in pairs]),
            torch.cat([found.pos_idx for found in pairs]).float(),
            avg_factor=avg_factor,
        )
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox}


def with_objectness(classes: Tensor, objectness: Tensor) -> Tensor:
    """The logit whose sigmoid is sigmoid(classes) * sigmoid(objectness).

    With s = sigmoid(c) sigmoid(o): log(s / (1 - s)) = c + o - log(1 + e^c + e^o).
    """
    total = 1 + classes.exp().clamp(max=LARGE) + objectness.exp().clamp(max=LARGE)
    return classes + objectness - total.log()
