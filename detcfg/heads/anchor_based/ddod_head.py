"""The head of DDOD.

Shapes: B images; features are (B, C, H_i, W_i); A anchors over all levels, one at each place; K classes;
L levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch
from attrs import field, frozen, validators
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.atss import ATSSAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.nms import NMSConfig
from detcfg.config import ConfigError, is_unset
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.anchor_targets import AnchorTargets, Candidates, positives
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import flatten_levels, per_level, sizes_of
from detcfg.heads.dense.towers import conv_tower, init_classifier, init_convs
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
class DDODHeadConfig(AnchorHeadConfig):
    """Classes and boxes with assigners of their own, levels with few positives weighed up (Chen et al., 2021).

    https://arxiv.org/abs/2107.02963. Follows mmdet/models/dense_heads/ddod_head.py.
    """

    stacked_convs: int = field(default=4, validator=validators.ge(1))
    """Layers of each stack."""
    use_dcn: bool = True
    """Whether the first layer of each is a deformable convolution."""
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
    loss_cls: ClassLossConfig = FocalLossConfig()
    """The loss of the class scores; also says how scores become probabilities."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=2.0)
    """The loss of the boxes."""
    loss_iou: LossConfig = CrossEntropyLossConfig(use_sigmoid=True)
    """The loss of the predicted overlap."""
    assigner: AssignerConfig = ATSSAssignerConfig(topk=9, alpha=0.8)
    """For classes."""
    reg_assigner: AssignerConfig = ATSSAssignerConfig(topk=9, alpha=0.5)
    """For boxes and their predicted IoUs."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def wired(self) -> Self:
        wired = super().wired()
        if not is_unset(self.in_strides) and wired.num_base_priors != 1:
            raise ConfigError(
                f"anchor_generator makes {wired.num_base_priors} anchors at each place; DDODHead needs one. "
                "Give it one ratio and one scale."
            )
        if self.use_dcn and self.norm_cfg is None:
            raise ConfigError(
                "use_dcn is True and norm_cfg is None; a deformable convolution has no bias. "
                "Give a norm, or say use_dcn=False."
            )
        return wired

    def build(self) -> DDODHead:
        return DDODHead(self.resolved())


class DDODHead(AnchorHead, HasTrainingState):
    """Two stacks of convolutions; the one for boxes also says how much a box overlaps its object."""

    positives_so_far: Tensor
    """(L,): positives of each level in the training up to now, those of both assigners and all processes."""

    def __init__(self, config: DDODHeadConfig) -> None:
        super().__init__(config)
        self.cls_convs, self.reg_convs = (
            conv_tower(
                config.in_channels,
                config.feat_channels,
                config.stacked_convs,
                conv_cfg=config.conv_cfg,
                norm_cfg=config.norm_cfg,
                first_conv_cfg=DCNConfig() if config.use_dcn else None,
            )
            for _ in range(2)
        )
        self.atss_cls = nn.Conv2d(config.feat_channels, self.cls_out_channels, 3, padding=1)
        self.atss_reg = nn.Conv2d(config.feat_channels, 4, 3, padding=1)
        self.atss_iou = nn.Conv2d(config.feat_channels, 1, 3, padding=1)
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
        codes = self.scales[level](self.atss_reg(boxes)).float()
        return self.atss_cls(self.cls_convs(feature)), codes, self.atss_iou(boxes)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds, iou_preds = predictions
        anchors = self.anchors(cls_scores)
        scores, codes = self.flat_scores(cls_scores), self.flat_codes(bbox_preds)
        maker = partial(self.target_maker, anchors, sizes_of(cls_scores), batch, targets)

        learnt = maker(assign=partial(self._assign, self.assigner, scores.detach(), codes.detach()))
        weights = learnt.label_weights * self.level_weights(learnt, anchors)
        loss_cls = self.loss_cls(
            scores.flatten(0, 1),
            learnt.labels.flatten(),
            weights.flatten(),
            avg_factor=shared_factor(learnt.avg_factor, scores),
        )

        learnt = maker(assign=partial(self._assign, self.reg_assigner, scores.detach(), codes.detach()))
        positive, priors = positives(learnt, anchors, self.num_classes)
        weight = self.level_weights(learnt, anchors).expand_as(positive)[positive]
        avg_factor = shared_factor(learnt.avg_factor, scores)
        boxes = self.bbox_coder.decode(priors, codes[positive])
        wanted = learnt.bbox_targets[positive]
        if not self.reg_decoded_bbox:
            wanted = self.bbox_coder.decode(priors, wanted)
        overlaps = bbox_overlaps(boxes.detach(), wanted, is_aligned=True)
        predicted = flatten_levels(iou_preds, 1).squeeze(-1)[positive]
        return {
            "loss_cls": loss_cls,
            "loss_bbox": self.loss_bbox(boxes, wanted, weight, avg_factor=avg_factor),
            "loss_iou": self.loss_iou(predicted, overlaps, weight, avg_factor=avg_factor),
        }

    def _assign(
        self,
        assigner: AssignerConfig,
        scores: Tensor,
        codes: Tensor,
        candidates: Candidates,
        targets: Targets,
    ) -> Assignment:
        """What each candidate of one image learns, by what is predicted for it: (B, A, C) and (B, A, 4)."""
        if not isinstance(assigner, ATSSAssignerConfig):
            return assigner.assign_anchors(candidates.anchors, targets, candidates.num_level_anchors)
        image, places = candidates.image, candidates.places
        boxes = self.bbox_coder.decode(candidates.anchors, codes[image][places])
        return assigner.assign(
            candidates.anchors, candidates.num_level_anchors, targets, boxes, scores[image][places]
        )

    def level_weights(self, learnt: AnchorTargets, anchors: Sequence[Tensor]) -> Tensor:
        """(A,): from 1 on the level that has had most positives to 2 on the one that has had fewest."""
        counts = torch.stack([(labels < self.num_classes).sum() for labels in learnt.levels(learnt.labels)])
        counts = self.positives_so_far + reduce_sum(counts.double()).long()
        if self.training:
            self.positives_so_far.copy_(counts)
        counts = counts.double()
        factor = 2 - (counts - counts.min()) / (counts.max() - counts.min() + 1e-10)
        level = per_level(range(len(anchors)), anchors).long()
        return factor.to(anchors[0])[level]
