"""The RoI head of Hybrid Task Cascade: boxes and masks in turn, and the whole image's meaning beside them.

Shapes: B images; features are (B, C, H_i, W_i), finest first; R rois over the whole batch. With a semantic
head, its map (B, C', H_i, W_i) goes along as one more feature map, the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self, cast

import torch
import torch.nn.functional as F
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import ConfigError, fill, is_unset
from detcfg.heads.mask.fcn_mask_head import PIECE
from detcfg.heads.mask.fused_semantic_head import FusedSemanticHeadConfig
from detcfg.heads.mask.htc_mask_head import HTCMaskHead, HTCMaskHeadConfig
from detcfg.heads.roi.cascade_roi_head import CascadeRoIHead, CascadeRoIHeadConfig
from detcfg.roi_extractors.base import RoIAlignConfig, RoIExtractorConfig, bbox2roi
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class HybridTaskCascadeRoIHeadConfig(CascadeRoIHeadConfig):
    """Hybrid Task Cascade (Chen et al., 2019, https://arxiv.org/abs/1901.07518).

    Follows mmdet/models/roi_heads/htc_roi_head.py.
    """

    mask_roi_extractor: RoIExtractorConfig | tuple[RoIExtractorConfig, ...] | None = SingleRoIExtractorConfig(
        roi_layer=RoIAlignConfig(output_size=14)
    )
    """How the features of masks are pooled; None: like those of boxes."""
    mask_head: HTCMaskHeadConfig | tuple[HTCMaskHeadConfig, ...] | None = (
        HTCMaskHeadConfig(with_conv_res=False),
        HTCMaskHeadConfig(),
        HTCMaskHeadConfig(),
    )
    """What draws the masks of each stage; None: no masks."""
    semantic_head: FusedSemanticHeadConfig | None = None
    """What tells the class of each pixel, stuff included; its features help boxes and masks."""
    semantic_roi_extractor: RoIExtractorConfig | None = None
    """How the semantic features are pooled; None: like those of masks, if there are any."""
    semantic_fusion: tuple[Literal["bbox", "mask"], ...] = ("bbox", "mask")
    """Where the semantic features are added."""
    interleaved: bool = True
    """Whether a stage's masks learn from the boxes that the stage has refined already."""
    mask_info_flow: bool = True
    """Whether each mask head reads what those before it made."""

    def wired(self) -> Self:
        wired = super().wired()
        wired.check_flow()
        semantic = wired.semantic_head
        if semantic is None and wired.semantic_roi_extractor is not None:
            raise ConfigError(
                "semantic_roi_extractor is given, but semantic_head is None. Give both or neither."
            )
        if is_unset(wired.in_strides) or semantic is None:
            return wired
        semantic = fill(semantic, "in_channels", in_channels=wired.in_channels)
        semantic = fill(semantic, "in_strides", num_ins=len(wired.in_strides))
        if not 0 <= semantic.fusion_level < semantic.num_ins:
            raise ConfigError(
                f"semantic_head.fusion_level is {semantic.fusion_level}, but there are {semantic.num_ins} "
                "feature maps. Count them from 0."
            )
        stride = wired.in_strides[semantic.fusion_level]
        extractor = wired.semantic_roi_extractor or SingleRoIExtractorConfig(
            roi_layer=RoIAlignConfig(output_size=14)
        )
        if is_unset(extractor.featmap_strides):
            extractor = evolve(extractor, featmap_strides=(stride,))
        extractor = extractor.fed(semantic.conv_out_channels, (stride,))
        return evolve(wired, semantic_head=semantic, semantic_roi_extractor=extractor)

    def check_flow(self) -> None:
        """Refuse mask heads that cannot read what those before them made."""
        if self.mask_head is None or not self.mask_info_flow:
            return
        for stage, head in enumerate(self.stages("mask_head", self.mask_head)):
            if stage > 0 and not head.with_conv_res:
                raise ConfigError(
                    f"mask_head.{stage}.with_conv_res is False, but mask_info_flow is True. "
                    "Set one of them the other way."
                )

    def build(self) -> HybridTaskCascadeRoIHead:
        return HybridTaskCascadeRoIHead(self.resolved())


class HybridTaskCascadeRoIHead(CascadeRoIHead):
    """A cascade whose mask heads follow one another, with semantic features where there is such a head."""

    def __init__(self, config: HybridTaskCascadeRoIHeadConfig) -> None:
        super().__init__(config)
        self.interleaved = config.interleaved
        self.mask_info_flow = config.mask_info_flow
        self.semantic_fusion = config.semantic_fusion
        self.semantic_head = self.semantic_roi_extractor = None
        if config.semantic_head is not None and config.semantic_roi_extractor is not None:
            self.semantic_roi_extractor = config.semantic_roi_extractor.build()
            self.semantic_head = config.semantic_head.build()

    def mask_head_of(self, stage: int) -> HTCMaskHead:
        return cast("HTCMaskHead", super().mask_head_of(stage))

    def loss(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> dict[str, Tensor]:
        if self.semantic_head is None:
            return super().loss(features, proposals, batch, targets)
        logits, semantic = self.semantic_head(features)
        losses = self.semantic_head.loss(logits, batch, targets)
        return losses | super().loss((*features, semantic), proposals, batch, targets)

    def predict(
        self, features: tuple[Tensor, ...], proposals: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        if self.semantic_head is not None:
            _, semantic = self.semantic_head(features)
            features = (*features, semantic)
        return super().predict(features, proposals, batch)

    def mask_samplings(
        self,
        stage: int,
        features: tuple[Tensor, ...],
        samplings: Sequence[SamplingResult],
        refined: Sequence[Detections],
        targets: Sequence[Targets],
    ) -> Sequence[SamplingResult]:
        return self.sample(stage, features, refined, targets) if self.interleaved else samplings

    def pool(self, stage: int, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        pooled = super().pool(stage, features, rois)
        return self._fused(pooled, features, rois) if "bbox" in self.semantic_fusion else pooled

    def pool_masks(self, stage: int, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        pooled = super().pool_masks(stage, features, rois)
        return self._fused(pooled, features, rois) if "mask" in self.semantic_fusion else pooled

    def _fused(self, pooled: Tensor, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """Pooled features (R, C, S, S) with the semantic ones added."""
        if self.semantic_roi_extractor is None:
            return pooled
        semantic: Tensor = self.semantic_roi_extractor(features[-1:], rois)
        if semantic.shape[-2:] != pooled.shape[-2:]:
            height, width = pooled.shape[-2:]
            semantic = F.adaptive_avg_pool2d(semantic, (height, width))
        return pooled + semantic

    def mask_loss(
        self,
        stage: int,
        features: tuple[Tensor, ...],
        samplings: Sequence[SamplingResult],
        batch: ImageBatch,
    ) -> dict[str, Tensor]:
        pooled = self.pool_masks(stage, features, bbox2roi([s.pos_priors for s in samplings]))
        height, width = batch.tensor.shape[-2:]
        return self.mask_head_of(stage).loss_of(self.mask_logits(stage, pooled), samplings, (height, width))

    def mask_logits(self, stage: int, pooled: Tensor) -> Tensor:
        """The logits of a stage, by way of the stages before it."""
        made: Tensor | None = None
        for earlier in range(stage) if self.mask_info_flow else ():
            made = self.mask_head_of(earlier).convolved(pooled, made)
        head = self.mask_head_of(stage)
        return head.draw(head.convolved(pooled, made))

    def mask_probabilities(self, features: tuple[Tensor, ...], rois: Tensor, labels: Tensor) -> Tensor:
        """(R, M, M): the masks of the last stage, as in MMDetection."""
        last = self.num_stages - 1
        pooled = self.pool_masks(last, features, rois)
        parts = zip(torch.split(pooled, PIECE), torch.split(labels, PIECE), strict=True)
        head = self.mask_head_of(last)
        logits = [head.masks_of_labels(self.mask_logits(last, part), own) for part, own in parts]
        return torch.cat(logits).float().sigmoid()
