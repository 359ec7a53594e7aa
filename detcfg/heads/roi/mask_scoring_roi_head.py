"""The RoI head of Mask Scoring R-CNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import ConfigError, fill, is_unset
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.heads.mask.mask_iou_head import MaskIoUHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.masks import paste
from detcfg.roi_extractors.base import RoIAlignConfig, RoIExtractorConfig
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.structures import Detections, ImageBatch


@frozen(kw_only=True)
class MaskScoringRoIHeadConfig(StandardRoIHeadConfig):
    """Mask Scoring R-CNN (Huang et al., 2019, https://arxiv.org/abs/1903.00241).

    Follows mmdet/models/roi_heads/mask_scoring_roi_head.py.
    """

    mask_roi_extractor: RoIExtractorConfig | None = SingleRoIExtractorConfig(
        roi_layer=RoIAlignConfig(output_size=14)
    )
    """Pools features for the two mask heads; None: they read those pooled for the bbox head."""
    mask_head: FCNMaskHeadConfig = FCNMaskHeadConfig()
    """Predicts the masks."""
    mask_iou_head: MaskIoUHeadConfig = MaskIoUHeadConfig()
    """Predicts the IoU of each mask with its object."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    """Assigns ground-truth boxes to proposals."""

    def wired(self) -> Self:
        wired = super().wired()
        if is_unset(wired.in_strides):
            return wired
        mask_head = wired.mask_head.wired()
        head = fill(wired.mask_iou_head, "mask_head.num_classes", num_classes=mask_head.num_classes)
        head = fill(head, "mask_head.in_channels", in_channels=mask_head.in_channels)
        head = fill(head, "mask_head.roi_feat_size", roi_feat_size=mask_head.roi_feat_size)
        if mask_head.mask_size // 2 != head.roi_feat_size:
            raise ConfigError(
                f"mask_head.mask_size is {mask_head.mask_size}, but mask_iou_head reads masks of twice "
                f"roi_feat_size, {2 * head.roi_feat_size}. Give the mask head an upsample_cfg of scale_factor 2."
            )
        return evolve(wired, mask_iou_head=head)

    def build(self) -> MaskScoringRoIHead:
        return MaskScoringRoIHead(self.resolved())


class MaskScoringRoIHead(StandardRoIHead):
    """Scores each detection by the predicted IoU of its mask, times its class score."""

    def __init__(self, config: MaskScoringRoIHeadConfig) -> None:
        super().__init__(config)
        self.mask_iou_head = config.mask_iou_head.build()

    def mask_loss(
        self,
        features: tuple[Tensor, ...],
        pooled: Tensor,
        samplings: Sequence[SamplingResult],
        batch: ImageBatch,
    ) -> dict[str, Tensor]:
        del features
        head = self.fcn_mask_head
        labels = torch.cat([sampling.pos_gt_labels for sampling in samplings])
        logits = head.masks_of_labels(head(pooled), labels)
        height, width = batch.tensor.shape[-2:]
        targets = head.targets(samplings, (height, width))
        losses = {"loss_mask": head.loss_mask(logits, targets)}
        return losses | self.mask_iou_head.loss(pooled, logits, targets, samplings)

    def with_masks(self, detections: Detections, pooled: Tensor, size: tuple[int, int]) -> Detections:
        logits = self.fcn_mask_head.logits_of_labels(pooled, detections.labels)
        ious = self.mask_iou_head.of_class(pooled, logits, detections.labels)
        masks = paste(logits.sigmoid(), detections.boxes, size, self.test_cfg.mask_thr_binary)
        scored = evolve(detections, scores=detections.scores * ious, masks=masks)
        return scored[scored.scores.argsort(descending=True, stable=True)]
