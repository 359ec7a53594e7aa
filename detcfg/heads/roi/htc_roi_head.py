"""The RoI head of Hybrid Task Cascade: box and mask branches interleaved over stages, with an optional semantic
segmentation branch.

Shapes: B images; features are (B, C, H_i, W_i), finest first; R rois over the whole batch; S the side of pooled
features, M that of a mask. With a semantic head, its features (B, C', H_i, W_i) follow as the last level.
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
from detcfg.heads.roi.cascade_roi_head import CascadeRoIHead, CascadeRoIHeadConfig, CascadeStage
from detcfg.roi_extractors.base import RoIAlignConfig, RoIExtractor, RoIExtractorConfig
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
    """Pools features for the mask head of each stage; None: `bbox_roi_extractor` does."""
    mask_head: HTCMaskHeadConfig | tuple[HTCMaskHeadConfig, ...] | None = (
        HTCMaskHeadConfig(with_conv_res=False),
        HTCMaskHeadConfig(),
        HTCMaskHeadConfig(),
    )
    """Predicts the masks of each stage; None: no masks."""
    semantic_head: FusedSemanticHeadConfig | None = None
    """The semantic segmentation branch, stuff classes included, whose features are fused with those of rois;
    None: there is none."""
    semantic_roi_extractor: RoIExtractorConfig | None = None
    """Pools the semantic features; None: to 14 x 14, if there is a `semantic_head`."""
    semantic_fusion: tuple[Literal["bbox", "mask"], ...] = ("bbox", "mask")
    """The branches to whose pooled features the semantic ones are added."""
    interleaved: bool = True
    """Whether a stage's mask head is trained on the boxes that its bbox head has refined, sampled anew, rather
    than on the samples of the bbox head."""
    mask_info_flow: bool = True
    """Whether each mask head reads the features of the mask head of the stage before."""

    def wired(self) -> Self:
        wired = super().wired()
        wired.check_flow()
        semantic = wired.semantic_head
        if semantic is None and wired.semantic_roi_extractor is not None:
            raise ConfigError(
                "semantic_roi_extractor is given, but semantic_head is None. Leave the one out, or give the other."
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
        """Refuse mask heads that cannot read the features of the stage before."""
        if self.mask_head is None or not self.mask_info_flow:
            return
        for stage, head in enumerate(self.each("mask_head", self.mask_head)):
            if stage > 0 and not head.with_conv_res:
                raise ConfigError(
                    f"mask_head.{stage}.with_conv_res is False, but mask_info_flow is True. "
                    "Set one of them the other way."
                )

    def build(self) -> HybridTaskCascadeRoIHead:
        return HybridTaskCascadeRoIHead(self.resolved())


class HybridTaskCascadeRoIHead(CascadeRoIHead):
    """A cascade of `HTCStage`, with a semantic segmentation branch if there is a `semantic_head`."""

    def __init__(self, config: HybridTaskCascadeRoIHeadConfig) -> None:
        super().__init__(config)
        self.interleaved = config.interleaved
        self.mask_info_flow = config.mask_info_flow
        self.semantic_fusion = config.semantic_fusion
        self.semantic_head = self.semantic_roi_extractor = None
        if config.semantic_head is not None and config.semantic_roi_extractor is not None:
            self.semantic_roi_extractor = config.semantic_roi_extractor.build()
            self.semantic_head = config.semantic_head.build()

    def stage(self, index: int) -> HTCStage:
        return HTCStage(self, index)

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

    def mask_probabilities(self, features: tuple[Tensor, ...], rois: Tensor, labels: Tensor) -> Tensor:
        """(R, M, M): the masks of the last stage alone, as in MMDetection."""
        last = self.stage(self.num_stages - 1)
        pooled = last.pool_masks(features, rois)
        parts = zip(torch.split(pooled, PIECE), torch.split(labels, PIECE), strict=True)
        head = last.fcn_mask_head
        logits = [head.masks_of_labels(last.mask_logits(part), classes) for part, classes in parts]
        return torch.cat(logits).float().sigmoid()


class HTCStage(CascadeStage):
    """Pools semantic features too, and predicts masks by way of the mask heads of the stages before."""

    def __init__(self, head: HybridTaskCascadeRoIHead, index: int) -> None:
        super().__init__(head, index)
        self.interleaved = head.interleaved
        self.semantic_fusion = head.semantic_fusion
        self.semantic_roi_extractor = head.semantic_roi_extractor
        first = 0 if head.mask_info_flow else index
        heads = [] if head.mask_head is None else list(head.mask_head)[first : index + 1]
        self.mask_heads = cast("list[HTCMaskHead]", heads)
        """Those that a mask goes through: this stage's is the last."""

    def mask_samplings(
        self,
        features: tuple[Tensor, ...],
        samplings: list[SamplingResult],
        refined: Sequence[Detections],
        targets: Sequence[Targets],
    ) -> list[SamplingResult]:
        return self.sample(features, refined, targets) if self.interleaved else samplings

    def pool(
        self,
        features: tuple[Tensor, ...],
        rois: Tensor,
        roi_scale_factor: float | None = None,
        extractor: RoIExtractor | None = None,
    ) -> Tensor:
        pooled = super().pool(features, rois, roi_scale_factor, extractor)
        return self._fused(pooled, features, rois) if "bbox" in self.semantic_fusion else pooled

    def pool_masks(self, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        pooled = super().pool(features, rois, extractor=self.mask_roi_extractor)
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
        features: tuple[Tensor, ...],
        pooled: Tensor,
        samplings: Sequence[SamplingResult],
        batch: ImageBatch,
    ) -> dict[str, Tensor]:
        del features
        height, width = batch.tensor.shape[-2:]
        return self.fcn_mask_head.loss_of(self.mask_logits(pooled), samplings, (height, width))

    def mask_logits(self, pooled: Tensor) -> Tensor:
        """Mask logits (R, K, M, M) of pooled features (R, C, S, S), through the mask heads in turn."""
        *earlier, head = self.mask_heads
        passed: Tensor | None = None
        for before in earlier:
            passed = before.convolved(pooled, passed)
        return head.draw(head.convolved(pooled, passed))
