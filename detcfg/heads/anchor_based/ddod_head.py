"""The head of DDOD.

Shapes: B images; features are (B, C, H_i, W_i); A anchors over all levels, one at each location; K classes;
L levels; P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.atss import ATSSAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.nms import NMSConfig
from detcfg.config import ConfigError
from detcfg.config.ranges import OneOrMoreLayers
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.anchor_targets import AnchorTargets, Candidates
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import flatten_levels, level_of_each, of_positives, sizes_of
from detcfg.heads.dense.towers import TowerConfig, init_classifier, init_convs
from detcfg.layers.conv import ConvConfig
from detcfg.layers.deform_conv import DCNConfig
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.layers.training_state import HasTrainingState
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.reduce import reduce_sum, shared_factor
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class DDODHeadConfig(TowerConfig, AnchorHeadConfig):
    """An assigner each for classes and boxes, and more weight for levels with few positives (Chen et al., 2021).

    https://arxiv.org/abs/2107.02963. Follows mmdet/models/dense_heads/ddod_head.py.
    """

    stacked_convs: OneOrMoreLayers = 4
    """Layers of each tower."""
    use_dcn: bool = True
    """Whether the first layer of each is a deformable convolution."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        ratios=(1.0,), octave_base_scale=8, scales_per_octave=1
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = DeltaXYWHBBoxCoderConfig(target_stds=(0.1, 0.1, 0.2, 0.2))
    """Encodes ground-truth boxes as deltas to their priors, and decodes predicted deltas."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=2.0)
    """Box regression loss."""
    loss_iou: LossConfig = CrossEntropyLossConfig(use_sigmoid=True)
    """Loss of the predicted IoU."""
    assigner: AssignerConfig = ATSSAssignerConfig(topk=9, alpha=0.8)
    """Assigns ground-truth boxes to priors, for classification."""
    reg_assigner: AssignerConfig = ATSSAssignerConfig(topk=9, alpha=0.5)
    """Assigns ground-truth boxes to priors, for box regression and the predicted IoU."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    hands_predictions: ClassVar[bool] = True

    def wired(self) -> Self:
        wired = super().wired()
        wired.anchor_generator.check_single("anchor_generator", type(self).__name__)
        if self.use_dcn and self.norm_cfg is None:
            raise ConfigError(
                "use_dcn is True and norm_cfg is None; a deformable convolution has no bias. "
                "Give a norm, or say use_dcn=False."
            )
        return wired

    def layer_kinds(self) -> list[ConvConfig | None]:
        kinds = super().layer_kinds()
        return [DCNConfig(), *kinds[1:]] if self.use_dcn else kinds

    def build(self) -> DDODHead:
        return DDODHead(self.resolved())


class DDODHead(AnchorHead, HasTrainingState):
    """Two towers; that for boxes also says how much a box overlaps its object."""

    positives_so_far: Tensor
    """(L,): positives of each level in the training up to now, those of both assigners and all processes."""

    def __init__(self, config: DDODHeadConfig) -> None:
        super().__init__(config)
        self.cls_convs, self.reg_convs = config.tower(), config.tower()
        self.atss_cls = nn.Conv2d(config.tower_channels, self.cls_out_channels, 3, padding=1)
        self.atss_reg = nn.Conv2d(config.tower_channels, 4, 3, padding=1)
        self.atss_iou = nn.Conv2d(config.tower_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)
        self.loss_iou = config.loss_iou.build()
        self.reg_assigner = config.reg_assigner
        counts = torch.zeros(len(config.in_strides), dtype=torch.int64)
        self.register_buffer("positives_so_far", counts, persistent=False)  # as in MMDetection
        init_convs(self)
        init_classifier(self.atss_cls)

    def training_state(self) -> dict[str, Any]:
        return {"positives_so_far": [int(count) for count in self.positives_so_far]}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.positives_so_far.copy_(torch.tensor(state["positives_so_far"]))

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        boxes = self.reg_convs(feature)
        deltas = self.scales[level](self.atss_reg(boxes))
        return self.atss_cls(self.cls_convs(feature)), deltas, self.atss_iou(boxes)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds, iou_preds = predictions
        anchors = self.priors(cls_scores)
        scores, deltas = self.flat_scores(cls_scores), self.flat_deltas(bbox_preds)
        maker = partial(self.target_maker, anchors, sizes_of(cls_scores), batch, targets)

        cls_targets = maker(assign=partial(self._assign, self.assigner, scores.detach(), deltas.detach()))
        weights = cls_targets.label_weights * self.level_weights(cls_targets, anchors)
        loss_cls = self.loss_cls(
            scores.flatten(0, 1),
            cls_targets.labels.flatten(),
            weights.flatten(),
            avg_factor=shared_factor(cls_targets.avg_factor, scores),
        )

        reg_targets = maker(assign=partial(self._assign, self.reg_assigner, scores.detach(), deltas.detach()))
        positive, priors = reg_targets.positive, reg_targets.priors_of(anchors)
        weight = of_positives(self.level_weights(reg_targets, anchors), positive)
        avg_factor = shared_factor(reg_targets.avg_factor, scores)
        boxes = self.bbox_coder.decode(priors, deltas[positive])
        gt_boxes = reg_targets.bbox_targets[positive]
        if not self.reg_decoded_bbox:
            gt_boxes = self.bbox_coder.decode(priors, gt_boxes)
        overlaps = bbox_overlaps(boxes.detach(), gt_boxes, is_aligned=True)
        predicted = flatten_levels(iou_preds, 1).squeeze(-1)[positive]
        return {
            "loss_cls": loss_cls,
            "loss_bbox": self.loss_bbox(boxes, gt_boxes, weight, avg_factor=avg_factor),
            "loss_iou": self.loss_iou(predicted, overlaps, weight, avg_factor=avg_factor),
        }

    def _assign(
        self,
        assigner: AssignerConfig,
        scores: Tensor,
        deltas: Tensor,
        candidates: Candidates,
        targets: Targets,
    ) -> Assignment:
        """Assign the boxes of one image to its candidates, by what is predicted: (B, A, C) and (B, A, 4)."""
        if not isinstance(assigner, ATSSAssignerConfig):
            return assigner.assign_anchors(candidates.anchors, targets, candidates.num_level_anchors)
        image, inds = candidates.image, candidates.inds
        boxes = self.bbox_coder.decode(candidates.anchors, deltas[image][inds])
        return assigner.assign(
            candidates.anchors, candidates.num_level_anchors, targets, boxes, scores[image][inds]
        )

    def level_weights(self, targets: AnchorTargets, anchors: Sequence[Tensor]) -> Tensor:
        """(A,): from 1 on the level that has had most positives to 2 on the one that has had fewest."""
        counts = torch.stack([level.sum() for level in targets.levels(targets.positive)])
        counts = self.positives_so_far + reduce_sum(counts.double()).long()
        if self.training:
            self.positives_so_far.copy_(counts)
        counts = counts.double()
        factor = 2 - (counts - counts.min()) / (counts.max() - counts.min() + 1e-10)
        return factor.to(anchors[0])[level_of_each(anchors)]
