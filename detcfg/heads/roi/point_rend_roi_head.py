"""The RoI head of PointRend: coarse masks, refined at the points where they are uncertain.

Shapes: R rois; Q points of each; M the side of a mask; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import fill, is_unset
from detcfg.config.ranges import Fraction, NumLayers, PositiveInt
from detcfg.heads.mask.coarse_mask_head import CoarseMaskHeadConfig
from detcfg.heads.mask.fcn_mask_head import PIECE, FCNMaskHeadConfig
from detcfg.heads.mask.mask_point_head import MaskPointHeadConfig
from detcfg.heads.roi.common import RoITestConfig, with_pasted_masks
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.layers.points import point_sample, sample_rois, uncertain_points, uncertainty
from detcfg.roi_extractors.base import RoIExtractorConfig, bbox2roi
from detcfg.roi_extractors.generic import GenericRoIExtractorConfig
from detcfg.roi_extractors.simple_roi_align import SimpleRoIAlignConfig
from detcfg.structures import Detections, ImageBatch


@frozen(kw_only=True)
class PointRendTestConfig(RoITestConfig):
    """How detections are selected and their masks refined by subdivision."""

    subdivision_steps: NumLayers = 5
    """Subdivision steps, each of which enlarges the mask and refines its most uncertain points."""
    subdivision_num_points: PositiveInt = 28 * 28
    """Points that are predicted anew in each step."""
    scale_factor: PositiveInt = 2
    """By which a step enlarges the mask."""

    def num_points(self, step: int, side: int) -> int:
        """Points that a step predicts anew in a mask of this side; 0 if the next step predicts all of its points."""
        if (
            step < self.subdivision_steps - 1
            and self.subdivision_num_points >= (self.scale_factor * side) ** 2
        ):
            return 0
        return min(self.subdivision_num_points, side * side)


@frozen(kw_only=True)
class PointRendRoIHeadConfig(StandardRoIHeadConfig):
    """PointRend (Kirillov et al., 2020, https://arxiv.org/abs/1912.08193).

    Follows mmdet/models/roi_heads/point_rend_roi_head.py.
    """

    mask_roi_extractor: RoIExtractorConfig = GenericRoIExtractorConfig(
        aggregation="concat", roi_layer=SimpleRoIAlignConfig(output_size=14), featmap_strides=(4,)
    )
    """Pools features for the coarse masks; the point head samples its feature maps as well."""
    mask_head: FCNMaskHeadConfig = CoarseMaskHeadConfig()
    """Predicts the coarse masks."""
    point_head: MaskPointHeadConfig = MaskPointHeadConfig()
    """Predicts at points whether they belong to the object."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    """Assigns ground-truth boxes to proposals."""
    num_points: PositiveInt = 14 * 14
    """Points of each positive on which the point head is trained."""
    oversample_ratio: Annotated[float, Ge(1)] = 3.0
    """So many times `num_points` candidates are drawn, of which the most uncertain are taken."""
    importance_sample_ratio: Fraction = 0.75
    """Fraction of `num_points` taken by uncertainty; the others are drawn uniformly."""
    test_cfg: PointRendTestConfig = PointRendTestConfig()
    """How predictions become detections, and their masks are refined."""

    def wired(self) -> Self:
        wired = super().wired()
        if is_unset(wired.in_strides):
            return wired
        channels = wired.in_channels * len(wired.mask_roi_extractor.featmap_strides)
        head = fill(wired.point_head, "mask_roi_extractor.featmap_strides", in_channels=channels)
        head = fill(head, "num_classes", num_classes=wired.num_classes)
        return evolve(wired, point_head=head)

    def build(self) -> PointRendRoIHead:
        return PointRendRoIHead(self.resolved())


class PointRendRoIHead(StandardRoIHead):
    """A point head predicts single points of a mask, from the coarse mask and the feature maps at these points."""

    def __init__(self, config: PointRendRoIHeadConfig) -> None:
        super().__init__(config)
        self.point_head = config.point_head.build()
        self.strides = config.mask_roi_extractor.featmap_strides
        self.num_points = config.num_points
        self.oversample_ratio = config.oversample_ratio
        self.importance_sample_ratio = config.importance_sample_ratio
        self.subdivision = config.test_cfg

    def mask_loss(
        self,
        features: tuple[Tensor, ...],
        pooled: Tensor,
        samplings: Sequence[SamplingResult],
        batch: ImageBatch,
    ) -> dict[str, Tensor]:
        rois = bbox2roi([sampling.pos_priors for sampling in samplings])
        labels = torch.cat([sampling.pos_gt_labels for sampling in samplings])
        coarse = self.fcn_mask_head(pooled)
        height, width = batch.tensor.shape[-2:]
        losses = self.fcn_mask_head.loss_of(coarse, samplings, (height, width))
        masks = self.fcn_mask_head.masks_of_labels(coarse, labels)
        points = uncertain_points(
            masks.detach(), self.num_points, self.oversample_ratio, self.importance_sample_ratio
        )
        logits = self.point_head(self.fine_features(features, rois, points), point_sample(coarse, points))
        return losses | self.point_head.loss(logits, points, samplings)

    def fine_features(self, features: tuple[Tensor, ...], rois: Tensor, points: Tensor) -> Tensor:
        """(R, C, Q): the feature maps, concatenated, at points (R, Q, 2) in [0, 1] of their rois."""
        levels = zip(features, self.strides, strict=False)
        return torch.cat([sample_rois(level, rois, points, stride) for level, stride in levels], dim=1)

    def predict_masks(
        self, features: tuple[Tensor, ...], detections: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        rois = bbox2roi([image.boxes for image in detections])
        labels = torch.cat([image.labels for image in detections])
        parts = zip(torch.split(rois, PIECE), torch.split(labels, PIECE), strict=True)
        logits = torch.cat([self.fine_masks(features, part, classes) for part, classes in parts])
        return with_pasted_masks(detections, logits.sigmoid(), batch, self.test_cfg.mask_thr_binary)

    def fine_masks(self, features: tuple[Tensor, ...], rois: Tensor, labels: Tensor) -> Tensor:
        """(R, M', M') float: mask logits of rois (R, 5) of classes `labels` (R,), subdivided step by step."""
        cfg = self.subdivision
        coarse = self.fcn_mask_head(self.pool_masks(features, rois))
        # Only the mask of the detected class: at full size, those of all classes would take gigabytes.
        logits = self.fcn_mask_head.masks_of_labels(coarse, labels).float()
        for step in range(cfg.subdivision_steps):
            logits = _enlarged(logits, cfg.scale_factor)
            side = logits.shape[-1]
            count = cfg.num_points(step, side)
            if count == 0:
                continue
            chosen = uncertainty(logits).flatten(1).topk(count, dim=1).indices
            points = _cell_centres(chosen, side)
            refined = self.point_head(
                self.fine_features(features, rois, points), point_sample(coarse, points)
            )
            refined = self.point_head.points_of_labels(refined, labels).float()
            logits = logits.flatten(1).scatter(1, chosen, refined).view_as(logits)
        return logits


def _enlarged(logits: Tensor, factor: int) -> Tensor:
    """(R, M, M) to (R, M * factor, M * factor), bilinearly."""
    if len(logits) == 0:
        return logits.new_zeros((0, logits.shape[1] * factor, logits.shape[2] * factor))
    return F.interpolate(logits[:, None], scale_factor=float(factor), mode="bilinear", align_corners=False)[
        :, 0
    ]


def _cell_centres(indices: Tensor, side: int) -> Tensor:
    """Indices (R, Q) of cells of a square, row by row, to their centres (R, Q, 2) in [0, 1]."""
    return (torch.stack((indices % side, indices // side), dim=2).float() + 0.5) / side
