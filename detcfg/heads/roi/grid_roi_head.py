"""The RoI head of Grid R-CNN.

Shapes: B images; features are (B, C, H_i, W_i), finest first; P positives over the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import torch
from attrs import evolve, field, frozen, validators
from torch import Tensor

from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.geometry import clip_boxes, scale_boxes
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import fill, is_unset
from detcfg.heads.bbox.bbox_head import BBoxHeadConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.bbox.grid_head import GridHeadConfig
from detcfg.heads.mask.fcn_mask_head import PIECE
from detcfg.heads.roi.common import on_pooled
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.roi_extractors.base import RoIAlignConfig, RoIExtractorConfig, bbox2roi
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.structures import Detections, ImageBatch, Targets

AMPLITUDE: Final = 0.15
"""By how much of its size a positive is moved and stretched at most before the grid head learns from it."""


@frozen(kw_only=True)
class GridRoIHeadConfig(StandardRoIHeadConfig):
    """Grid R-CNN (Lu et al., 2018, https://arxiv.org/abs/1811.12030).

    Follows mmdet/models/roi_heads/grid_roi_head.py.
    """

    bbox_head: BBoxHeadConfig = Shared2FCBBoxHeadConfig(with_reg=False)
    """What says which class a roi has; boxes are the grid head's."""
    grid_roi_extractor: RoIExtractorConfig | None = SingleRoIExtractorConfig(
        roi_layer=RoIAlignConfig(output_size=14)
    )
    """None: grids are pooled as boxes are."""
    grid_head: GridHeadConfig = GridHeadConfig()
    """What refines the boxes that are left after non-maximum suppression."""
    assigner: MaxIoUAssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    """What each proposal is to learn."""
    pos_radius: int = field(default=1, validator=validators.ge(0))
    """Cells about a point that learn it."""
    max_num_grid: int = field(default=192, validator=validators.ge(1))
    """At most so many positives of a batch are learnt by the grid head."""

    def wired(self) -> Self:
        wired = super().wired()
        if is_unset(wired.in_strides):
            return wired
        name, extractor = "bbox_roi_extractor", wired.bbox_roi_extractor
        own = wired.grid_roi_extractor
        if own is not None:
            own = own.fed(wired.in_channels, wired.in_strides)
            name, extractor = "grid_roi_extractor", own
        shared = wired.shared_head
        if shared is None:
            head = on_pooled(wired.grid_head, name, extractor)
        else:
            head = fill(wired.grid_head, "shared_head.feature_channels", in_channels=shared.feature_channels)
            head = fill(head, "shared_head.feature_size", roi_feat_size=shared.feature_size)
        return evolve(wired, grid_roi_extractor=own, grid_head=head)

    def build(self) -> GridRoIHead:
        return GridRoIHead(self.resolved())


class GridRoIHead(StandardRoIHead):
    """The bbox head says what a roi is, the grid head where its sides are."""

    def __init__(self, config: GridRoIHeadConfig) -> None:
        super().__init__(config)
        extractor = config.grid_roi_extractor
        self.grid_roi_extractor = None if extractor is None else extractor.build()
        self.grid_head = config.grid_head.build()
        self.pos_radius = config.pos_radius
        self.max_num_grid = config.max_num_grid

    def pool_grids(self, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """The features of each roi for its grid."""
        return self.pool(features, rois, extractor=self.grid_roi_extractor)

    def loss(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> dict[str, Tensor]:
        samplings = self.sample(features, proposals, targets)
        losses, pooled = self.bbox_loss(features, samplings)
        losses |= self.grid_loss(features, samplings, batch)
        if self.mask_head is not None:
            losses |= self.mask_loss(features, pooled, samplings, batch)
        return losses

    def grid_loss(
        self, features: tuple[Tensor, ...], samplings: Sequence[SamplingResult], batch: ImageBatch
    ) -> dict[str, Tensor]:
        """The loss of the grid head, on positives that are moved a little."""
        boxes = [
            jittered(sampling.pos_priors, size) for sampling, size in zip(samplings, batch.sizes, strict=True)
        ]
        rois = bbox2roi(boxes)
        objects = torch.cat([sampling.pos_gt_bboxes for sampling in samplings])
        chosen = torch.randperm(len(rois))[: self.max_num_grid].to(rois.device)
        heatmaps = self.grid_head(self.pool_grids(features, rois[chosen]))
        targets = self.grid_head.targets(rois[chosen, 1:], objects[chosen], self.pos_radius)
        return self.grid_head.loss(heatmaps, targets)

    def predict_boxes(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        *,
        rescale: bool,
    ) -> list[Detections]:
        found = super().predict_boxes(features, proposals, batch, rescale=False)
        refined = self.refine(features, bbox2roi([image.boxes for image in found]))
        parts = torch.split(refined, [len(image) for image in found])
        detections: list[Detections] = []
        for index, (image, part) in enumerate(zip(found, parts, strict=True)):
            # Points may lie outside the image, and boxes stay there: MMDetection clips a copy of them.
            boxes = scale_boxes(part, batch.scales(index)) if rescale else part
            detections.append(evolve(image, boxes=boxes))
        return detections

    def refine(self, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """(R, 4): the boxes of rois (R, 5) as their grids say."""
        boxes: list[Tensor] = []
        for own in torch.split(rois, PIECE):
            heatmaps, _ = self.grid_head(self.pool_grids(features, own))
            boxes.append(self.grid_head.decode(heatmaps, own[:, 1:]))
        return torch.cat(boxes)


def jittered(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (P, 4) moved and stretched at random, within an image of (height, width)."""
    offsets = boxes.new_empty(boxes.shape).uniform_(-AMPLITUDE, AMPLITUDE)
    extent = (boxes[:, 2:] - boxes[:, :2]).abs()
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2 + extent * offsets[:, :2]
    half = extent * (1 + offsets[:, 2:]) / 2
    moved = torch.cat([centre - half, centre + half], dim=1)
    # As in MMDetection, the last row and column of pixels are out of reach.
    return clip_boxes(moved, (size[0] - 1, size[1] - 1))
