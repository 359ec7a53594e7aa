"""The RoI head of Grid R-CNN.

Shapes: B images; features are (B, C, H_i, W_i), finest first; P positives over the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.geometry import clip_boxes, scale_boxes
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import is_unset
from detcfg.config.ranges import NonNegativeInt, PositiveInt
from detcfg.heads.bbox.bbox_head import BBoxHeadConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.bbox.grid_head import GridHeadConfig
from detcfg.heads.mask.fcn_mask_head import PIECE
from detcfg.heads.roi.common import wired_head
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.roi_extractors.base import RoIAlignConfig, RoIExtractorConfig, bbox2roi
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.structures import Detections, ImageBatch

AMPLITUDE: Final = 0.15
"""Positives are shifted and scaled by up to this fraction of their size before the grid head is trained on them."""


@frozen(kw_only=True)
class GridRoIHeadConfig(StandardRoIHeadConfig):
    """Grid R-CNN (Lu et al., 2018, https://arxiv.org/abs/1811.12030).

    Follows mmdet/models/roi_heads/grid_roi_head.py.
    """

    bbox_head: BBoxHeadConfig = Shared2FCBBoxHeadConfig(with_reg=False)
    """Classifies rois; the grid head refines their boxes."""
    grid_roi_extractor: RoIExtractorConfig | None = SingleRoIExtractorConfig(
        roi_layer=RoIAlignConfig(output_size=14)
    )
    """Pools features for the grid head; None: `bbox_roi_extractor` does."""
    grid_head: GridHeadConfig = GridHeadConfig()
    """Refines the boxes that non-maximum suppression keeps."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    """Assigns ground-truth boxes to proposals."""
    pos_radius: NonNegativeInt = 1
    """Cells within this distance of a grid point are positive in its heatmap."""
    max_num_grid: PositiveInt = 192
    """The grid head is trained on at most so many positives of a batch, drawn at random."""

    def wired(self) -> Self:
        wired = super().wired()
        if is_unset(wired.in_strides):
            return wired
        source, extractor = "bbox_roi_extractor", wired.grid_roi_extractor
        if extractor is not None:
            source, extractor = "grid_roi_extractor", extractor.fed(wired.in_channels, wired.in_strides)
        head = wired_head(wired.grid_head, source, extractor or wired.bbox_roi_extractor, wired.shared_head)
        return evolve(wired, grid_roi_extractor=extractor, grid_head=head)

    def build(self) -> GridRoIHead:
        return GridRoIHead(self.resolved())


class GridRoIHead(StandardRoIHead):
    """The bbox head classifies rois, the grid head refines their boxes."""

    def __init__(self, config: GridRoIHeadConfig) -> None:
        super().__init__(config)
        extractor = config.grid_roi_extractor
        self.grid_roi_extractor = None if extractor is None else extractor.build()
        self.grid_head = config.grid_head.build()
        self.pos_radius = config.pos_radius
        self.max_num_grid = config.max_num_grid

    def pool_grids(self, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """The features (R, C, S, S) of rois (R, 5) for the grid head."""
        return self.pool(features, rois, extractor=self.grid_roi_extractor)

    def extra_losses(
        self, features: tuple[Tensor, ...], samplings: Sequence[SamplingResult], batch: ImageBatch
    ) -> dict[str, Tensor]:
        """`loss_grid`, on positives that are jittered."""
        boxes = [
            jittered(sampling.pos_priors, size) for sampling, size in zip(samplings, batch.sizes, strict=True)
        ]
        rois = bbox2roi(boxes)
        gt_bboxes = torch.cat([sampling.pos_gt_bboxes for sampling in samplings])
        chosen = torch.randperm(len(rois))[: self.max_num_grid].to(rois.device)
        heatmaps = self.grid_head(self.pool_grids(features, rois[chosen]))
        targets = self.grid_head.targets(rois[chosen, 1:], gt_bboxes[chosen], self.pos_radius)
        return self.grid_head.loss(heatmaps, targets)

    def predict_boxes(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        *,
        rescale: bool,
    ) -> list[Detections]:
        detections = super().predict_boxes(features, proposals, batch, rescale=False)
        refined = self.refine(features, bbox2roi([image.boxes for image in detections]))
        parts = torch.split(refined, [len(image) for image in detections])
        gridded: list[Detections] = []
        for index, (image, part) in enumerate(zip(detections, parts, strict=True)):
            # Boxes may reach beyond the image, as in MMDetection, which clips a copy of them.
            boxes = scale_boxes(part, batch.scales(index)) if rescale else part
            gridded.append(evolve(image, boxes=boxes))
        return gridded

    def refine(self, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """(R, 4): the boxes that the grids of rois (R, 5) predict."""
        boxes: list[Tensor] = []
        for part in torch.split(rois, PIECE):
            heatmaps, _ = self.grid_head(self.pool_grids(features, part))
            boxes.append(self.grid_head.decode(heatmaps, part[:, 1:]))
        return torch.cat(boxes)


def jittered(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (P, 4) shifted and scaled at random by up to `AMPLITUDE`, clipped to an image of (height, width)."""
    offsets = boxes.new_empty(boxes.shape).uniform_(-AMPLITUDE, AMPLITUDE)
    extent = (boxes[:, 2:] - boxes[:, :2]).abs()
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2 + extent * offsets[:, :2]
    half = extent * (1 + offsets[:, 2:]) / 2
    moved = torch.cat([centre - half, centre + half], dim=1)
    # As in MMDetection, the last row and column of pixels are out of reach.
    return clip_boxes(moved, (size[0] - 1, size[1] - 1))
