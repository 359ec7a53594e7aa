"""The RoI head of Mask Scoring R-CNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import ConfigError, fill, is_unset
from detcfg.heads.mask.fcn_mask_head import FCNMaskHead, FCNMaskHeadConfig
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
    """How the features of masks are pooled; None: like those of boxes."""
    mask_head: FCNMaskHeadConfig = FCNMaskHeadConfig()
    """What draws the masks."""
    mask_iou_head: MaskIoUHeadConfig = MaskIoUHeadConfig()
    """What says how good a mask is."""
    assigner: MaxIoUAssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    """What each proposal is to learn."""

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
    """A third head says how good each mask is, and detections are scored by that, too."""

    def __init__(self, config: MaskScoringRoIHeadConfig) -> None:
        super().__init__(config)
        self.mask_iou_head = config.mask_iou_head.build()

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
        own = self.pool_positives(features, pooled, samplings)
        labels = torch.cat([sampling.pos_gt_labels for sampling in samplings])
        logits = self.drawing_head.masks_of_labels(self.drawing_head(own), labels)
        height, width = batch.tensor.shape[-2:]
        targets = self.drawing_head.targets(samplings, (height, width))
        losses = {"loss_mask": self.drawing_head.loss_mask(logits, targets)}
        return losses | self.mask_iou_head.loss(own, logits, targets, samplings)

    def with_masks(self, found: Detections, pooled: Tensor, size: tuple[int, int]) -> Detections:
        logits = self.drawing_head.logits_of_labels(pooled, found.labels)
        ious = self.mask_iou_head.of_class(pooled, logits, found.labels)
        masks = paste(logits.sigmoid(), found.boxes, size, self.test_cfg.mask_thr_binary)
        scored = evolve(found, scores=found.scores * ious, masks=masks)
        return scored[scored.scores.argsort(descending=True, stable=True)]
