"""The RoI head of PointRend: coarse masks, made fine at the points where they are uncertain.

Shapes: R rois; Q points of each; M the side of a coarse mask; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from attrs import evolve, field, frozen, validators
from torch import Tensor

from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.geometry import scale_boxes
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import fill, is_unset
from detcfg.heads.mask.coarse_mask_head import CoarseMaskHeadConfig
from detcfg.heads.mask.fcn_mask_head import PIECE, FCNMaskHead, FCNMaskHeadConfig
from detcfg.heads.mask.mask_point_head import MaskPointHeadConfig
from detcfg.heads.roi.common import RoITestConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.layers.points import point_sample, sample_rois, uncertain_points, uncertainty
from detcfg.masks import paste
from detcfg.roi_extractors.base import RoIExtractorConfig, bbox2roi
from detcfg.roi_extractors.generic import GenericRoIExtractorConfig
from detcfg.roi_extractors.simple_roi_align import SimpleRoIAlignConfig
from detcfg.structures import Detections, ImageBatch


@frozen(kw_only=True)
class PointRendTestConfig(RoITestConfig):
    """How detections are chosen and their masks made fine."""

    subdivision_steps: int = field(default=5, validator=validators.ge(0))
    """How often a mask is enlarged."""
    subdivision_num_points: int = field(default=28 * 28, validator=validators.ge(1))
    """Points that are told anew each time."""
    scale_factor: int = field(default=2, validator=validators.ge(1))
    """By which it is enlarged each time."""

    def num_points(self, step: int, side: int) -> int:
        """Points that a step tells of a mask of this side; none if the next step tells all of its own."""
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
    """Its feature maps are sampled for the point head, too."""
    mask_head: FCNMaskHeadConfig = CoarseMaskHeadConfig()
    """What draws the coarse masks."""
    point_head: MaskPointHeadConfig = MaskPointHeadConfig()
    """What tells at points whether they belong to the object."""
    assigner: MaxIoUAssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    """What each proposal is to learn."""
    num_points: int = field(default=14 * 14, validator=validators.ge(1))
    """Points that each positive learns."""
    oversample_ratio: float = field(default=3.0, validator=validators.ge(1))
    """So many times as many are drawn, from which the uncertain ones are chosen."""
    importance_sample_ratio: float = field(default=0.75, validator=[validators.ge(0), validators.le(1)])
    """The share of points that are chosen so; the others are drawn anywhere."""
    test_cfg: PointRendTestConfig = PointRendTestConfig()
    """How detections are chosen and their masks made fine."""

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
    """A second head tells points of a mask from the coarse mask and from the feature maps there."""

    def __init__(self, config: PointRendRoIHeadConfig) -> None:
        super().__init__(config)
        self.point_head = config.point_head.build()
        self.strides = config.mask_roi_extractor.featmap_strides
        self.num_points = config.num_points
        self.oversample_ratio = config.oversample_ratio
        self.importance_sample_ratio = config.importance_sample_ratio
        self.subdivision = config.test_cfg

    @property
    def drawing_head(self) -> FCNMaskHead:
        """The mask head, which a config of this kind always has."""
        assert isinstance(self.mask_head, FCNMaskHead)
        return self.mask_head

    def mask_loss(
        self,
        features: tuple[Tensor, ...],
        pooled: Tensor,
        samplings: Sequence[SamplingResult],
        batch: ImageBatch,
    ) -> dict[str, Tensor]:
        rois = bbox2roi([sampling.pos_priors for sampling in samplings])
        labels = torch.cat([sampling.pos_gt_labels for sampling in samplings])
        coarse = self.drawing_head(self.pool_positives(features, pooled, samplings))
        height, width = batch.tensor.shape[-2:]
        losses = self.drawing_head.loss_of(coarse, samplings, (height, width))
        own = self.drawing_head.masks_of_labels(coarse, labels)
        points = uncertain_points(
            own.detach(), self.num_points, self.oversample_ratio, self.importance_sample_ratio
        )
        logits = self.point_head(self.fine_features(features, rois, points), point_sample(coarse, points))
        return losses | self.point_head.loss(logits, points, samplings)

    def fine_features(self, features: tuple[Tensor, ...], rois: Tensor, points: Tensor) -> Tensor:
        """(R, C, Q): the feature maps at points (R, Q, 2) in [0, 1] of their rois."""
        levels = zip(features, self.strides, strict=False)
        return torch.cat([sample_rois(level, rois, points, stride) for level, stride in levels], dim=1)

    def predict_masks(
        self, features: tuple[Tensor, ...], found: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        rois = bbox2roi([image.boxes for image in found])
        labels = torch.cat([image.labels for image in found])
        parts = zip(torch.split(rois, PIECE), torch.split(labels, PIECE), strict=True)
        logits = torch.cat([self.fine_masks(features, own, classes) for own, classes in parts])
        detections: list[Detections] = []
        for index, own in enumerate(torch.split(logits, [len(image) for image in found])):
            boxes = scale_boxes(found[index].boxes, batch.scales(index))
            masks = paste(own.sigmoid(), boxes, batch.output_sizes[index], self.test_cfg.mask_thr_binary)
            detections.append(evolve(found[index], boxes=boxes, masks=masks))
        return detections

    def fine_masks(self, features: tuple[Tensor, ...], rois: Tensor, labels: Tensor) -> Tensor:
        """(R, M', M') float: the logits of rois whose classes are known, enlarged step by step."""
        cfg = self.subdivision
        coarse = self.drawing_head(self.pool_masks(features, rois))
        # Only the own class is drawn: at full size, those of all would be gigabytes.
        logits = self.drawing_head.masks_of_labels(coarse, labels).float()
        for step in range(cfg.subdivision_steps):
            logits = _enlarged(logits, cfg.scale_factor)
            side = logits.shape[-1]
            count = cfg.num_points(step, side)
            if count == 0:
                continue
            chosen = uncertainty(logits).flatten(1).topk(count, dim=1).indices
            points = _middles(chosen, side)
            told = self.point_head(self.fine_features(features, rois, points), point_sample(coarse, points))
            own = self.point_head.own_points(told, labels).float()
            logits = logits.flatten(1).scatter(1, chosen, own).view_as(logits)
        return logits


def _enlarged(logits: Tensor, factor: int) -> Tensor:
    """(R, M, M) to (R, M * factor, M * factor)."""
    if len(logits) == 0:
        return logits.new_zeros((0, logits.shape[1] * factor, logits.shape[2] * factor))
    return F.interpolate(logits[:, None], scale_factor=float(factor), mode="bilinear", align_corners=False)[
        :, 0
    ]


def _middles(indices: Tensor, side: int) -> Tensor:
    """Cells (R, Q) of squares, counted row by row, to their centres (R, Q, 2) in [0, 1]."""
    return (torch.stack((indices % side, indices // side), dim=2).float() + 0.5) / side
