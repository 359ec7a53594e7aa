"""The RoI head of Cascade R-CNN: stages that each refine the boxes of the one before.

Shapes: B images; features are (B, C, H_i, W_i), finest first; R rois over the whole batch; K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self, TypeVar, cast

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.samplers.base import SamplerConfig, SamplingResult
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import ConfigError, ModuleConfig, is_unset
from detcfg.config.ranges import NonEmpty, NonNegativeFloat, OneOrMoreLayers, WeightOrOff
from detcfg.heads.bbox.bbox_head import BBoxHead, BBoxHeadConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.mask.fcn_mask_head import FCNMaskHead, FCNMaskHeadConfig
from detcfg.heads.roi.base import RoIHead, RoIHeadConfig
from detcfg.heads.roi.common import RoITestConfig, with_pasted_masks
from detcfg.heads.roi.stage import BBoxResults, RoIStage
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.roi_extractors.base import RoIExtractor, RoIExtractorConfig, bbox2roi
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.structures import Detections, ImageBatch, Targets

T = TypeVar("T")


def _bbox_head(position: float, size: float) -> BBoxHeadConfig:
    """The head of a stage: the better its proposals are, the smaller are the deltas."""
    return Shared2FCBBoxHeadConfig(
        bbox_coder=DeltaXYWHBBoxCoderConfig(target_stds=(position, position, size, size)),
        reg_class_agnostic=True,
        loss_bbox=SmoothL1LossConfig(beta=1.0),
    )


def _assigner(iou: float) -> MaxIoUAssignerConfig:
    return MaxIoUAssignerConfig(pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou, match_low_quality=False)


@frozen(kw_only=True)
class CascadeRoIHeadConfig(RoIHeadConfig):
    """Cascade R-CNN (Cai and Vasconcelos, 2018, https://arxiv.org/abs/1712.00726).

    Follows mmdet/models/roi_heads/cascade_roi_head.py. Parts are given one for each stage, as a tuple, or one for
    all stages.
    """

    num_stages: OneOrMoreLayers = 3
    """How many times boxes are refined."""
    stage_loss_weights: NonEmpty[NonNegativeFloat] = (1.0, 0.5, 0.25)
    """Weight of the losses of each stage."""
    bbox_roi_extractor: RoIExtractorConfig | tuple[RoIExtractorConfig, ...] = SingleRoIExtractorConfig()
    """Pools features for the bbox head of each stage."""
    bbox_head: BBoxHeadConfig | tuple[BBoxHeadConfig, ...] = (
        _bbox_head(0.1, 0.2),
        _bbox_head(0.05, 0.1),
        _bbox_head(0.033, 0.067),
    )
    """Classifies the rois of each stage and refines their boxes."""
    mask_roi_extractor: RoIExtractorConfig | tuple[RoIExtractorConfig, ...] | None = None
    """Pools features for the mask head of each stage; None: `bbox_roi_extractor` does."""
    mask_head: FCNMaskHeadConfig | tuple[FCNMaskHeadConfig, ...] | None = None
    """Predicts the masks of each stage; None: no masks."""
    assigner: AssignerConfig | tuple[AssignerConfig, ...] = (
        _assigner(0.5),
        _assigner(0.6),
        _assigner(0.7),
    )
    """Assigns ground-truth boxes to the proposals of each stage."""
    sampler: SamplerConfig | tuple[SamplerConfig, ...] = RandomSamplerConfig(num=512, pos_fraction=0.25)
    """Samples the positives and negatives that enter the loss of each stage."""
    pos_weight: WeightOrOff | NonEmpty[WeightOrOff] = -1.0
    """Weight of positives in the classification loss; at most 0 for 1."""
    test_cfg: RoITestConfig = RoITestConfig()
    """How predictions become detections."""

    def wired(self) -> Self:
        wired = super().wired()
        stages = [wired.stage(index) for index in range(wired.num_stages)]
        wired.each("stage_loss_weights", cast("float | tuple[float, ...]", wired.stage_loss_weights))
        if is_unset(wired.in_strides):
            return wired
        stages = [stage.with_inputs(f".{index}") for index, stage in enumerate(stages)]
        return evolve(
            wired,
            bbox_roi_extractor=tuple(stage.bbox_roi_extractor for stage in stages),
            bbox_head=tuple(stage.bbox_head for stage in stages),
            mask_roi_extractor=_unless_none(stage.mask_roi_extractor for stage in stages),
            mask_head=_unless_none(cast("FCNMaskHeadConfig | None", stage.mask_head) for stage in stages),
        )

    def stage(self, index: int) -> StandardRoIHeadConfig:
        """A stage as what it is on its own: a standard RoI head.

        Raises:
            ConfigError: A field has values for another number of stages.
        """
        return StandardRoIHeadConfig(
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            in_strides=self.in_strides,
            bbox_roi_extractor=self.each("bbox_roi_extractor", self.bbox_roi_extractor)[index],
            bbox_head=self.each("bbox_head", self.bbox_head)[index],
            mask_roi_extractor=self.each("mask_roi_extractor", self.mask_roi_extractor)[index],
            mask_head=self.each("mask_head", self.mask_head)[index],
            assigner=self.each("assigner", self.assigner)[index],
            sampler=self.each("sampler", self.sampler)[index],
            pos_weight=self.each("pos_weight", self.pos_weight)[index],
            test_cfg=self.test_cfg,
        )

    def each(self, name: str, value: T | tuple[T, ...]) -> tuple[T, ...]:
        """The value of the field `name` for each stage."""
        if not isinstance(value, tuple):
            return (value,) * self.num_stages
        values = cast("tuple[T, ...]", value)
        if len(values) != self.num_stages:
            raise ConfigError(
                f"{name} has {len(values)} values, but num_stages is {self.num_stages}. "
                "Give one for each stage, or one for all."
            )
        return values

    def build(self) -> CascadeRoIHead:
        return CascadeRoIHead(self.resolved())


class CascadeRoIHead(RoIHead):
    """Stages of which each is trained on the boxes that the one before has refined.

    Its parts are lists by stage, as MMDetection names their parameters (`bbox_head.0.fc_cls.weight`). A subclass
    with another kind of `CascadeStage` overrides `stage`.
    """

    def __init__(self, config: CascadeRoIHeadConfig) -> None:
        super().__init__()
        stages = [config.stage(index) for index in range(config.num_stages)]
        self.num_stages = config.num_stages
        self.stage_loss_weights = config.stage_loss_weights
        self.bbox_roi_extractor = nn.ModuleList(stage.bbox_roi_extractor.build() for stage in stages)
        self.bbox_head = nn.ModuleList(stage.bbox_head.build() for stage in stages)
        self.mask_head = _built(stage.mask_head for stage in stages)
        self.mask_roi_extractor = _built(stage.mask_roi_extractor for stage in stages)
        self.assigners = tuple(stage.assigner for stage in stages)
        self.samplers = tuple(stage.sampler for stage in stages)
        self.pos_weights = tuple(stage.pos_weight for stage in stages)
        self.test_cfg = config.test_cfg

    def stage(self, index: int) -> CascadeStage:
        """The parts of one stage, together."""
        return CascadeStage(self, index)

    @property
    def stages(self) -> list[CascadeStage]:
        """All stages, in order."""
        return [self.stage(index) for index in range(self.num_stages)]

    def loss(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for index, (stage, weight) in enumerate(zip(self.stages, self.stage_loss_weights, strict=True)):
            samplings = stage.sample(features, proposals, targets)
            results = stage.bbox_results(features, samplings)
            stage_losses = stage.bbox_loss(results, samplings)
            proposals = stage.next_proposals(results, samplings, batch)
            if stage.mask_head is not None:
                samplings = stage.mask_samplings(features, samplings, proposals, targets)
                pooled = stage.pool_masks(features, bbox2roi([sampling.pos_priors for sampling in samplings]))
                stage_losses = stage_losses | stage.mask_loss(features, pooled, samplings, batch)
            for name, value in stage_losses.items():
                losses[f"s{index}.{name}"] = value * weight if "loss" in name else value
        return losses

    def predict(
        self, features: tuple[Tensor, ...], proposals: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        detections = self.predict_boxes(features, proposals, batch, rescale=self.mask_head is None)
        return detections if self.mask_head is None else self.predict_masks(features, detections, batch)

    def predict_boxes(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        *,
        rescale: bool,
    ) -> list[Detections]:
        """The detections of each image without masks, in output pixels if `rescale`, else in network pixels.

        Boxes are the last stage's; scores come from the mean of all stages' logits.
        """
        counts = [len(image) for image in proposals]
        rois = bbox2roi([image.boxes for image in proposals])
        stages, logits = self.stages, list[Tensor]()
        for stage in stages[:-1]:
            cls_score, bbox_pred, _ = stage.bbox_forward(features, rois)
            logits.append(cls_score)
            labels = stage.bbox_head.predicted_labels(cls_score)
            rois = bbox2roi(stage.refine(rois, bbox_pred, labels, counts=counts, batch=batch))
        last = stages[-1]
        cls_score, bbox_pred, _ = last.bbox_forward(features, rois)
        mean = torch.stack([*logits, cls_score]).mean(dim=0)
        return last.detections(rois, mean, bbox_pred, counts=counts, batch=batch, rescale=rescale)

    def predict_masks(
        self, features: tuple[Tensor, ...], detections: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        """Detections in network pixels to detections in output pixels with masks."""
        rois = bbox2roi([image.boxes for image in detections])
        labels = torch.cat([image.labels for image in detections])
        probabilities = self.mask_probabilities(features, rois, labels)
        return with_pasted_masks(detections, probabilities, batch, self.test_cfg.mask_thr_binary)

    def mask_probabilities(self, features: tuple[Tensor, ...], rois: Tensor, labels: Tensor) -> Tensor:
        """(R, M, M): the masks of rois (R, 5) of classes `labels` (R,), averaged over the stages."""
        masks = [
            stage.fcn_mask_head.probabilities(stage.pool_masks(features, rois), labels)
            for stage in self.stages
        ]
        return torch.stack(masks).mean(dim=0)


class CascadeStage(RoIStage):
    """A stage of a cascade, whose refined boxes are the proposals of the next.

    It is a view on the parts of the cascade, made anew whenever it is asked for: replace a part in the cascade's
    lists, not here.
    """

    def __init__(self, head: CascadeRoIHead, index: int) -> None:
        self.bbox_roi_extractor = cast("RoIExtractor", head.bbox_roi_extractor[index])
        self.shared_head = None
        self.bbox_head = cast("BBoxHead", head.bbox_head[index])
        extractors, mask_heads = head.mask_roi_extractor, head.mask_head
        self.mask_roi_extractor = None if extractors is None else cast("RoIExtractor", extractors[index])
        self.mask_head = None if mask_heads is None else cast("FCNMaskHead", mask_heads[index])
        self.assigner = head.assigners[index]
        self.sampler = head.samplers[index]
        self.pos_weight = head.pos_weights[index]
        self.test_cfg = head.test_cfg

    def mask_samplings(
        self,
        features: tuple[Tensor, ...],
        samplings: list[SamplingResult],
        refined: Sequence[Detections],
        targets: Sequence[Targets],
    ) -> list[SamplingResult]:
        """The samples whose positives the mask head is trained on: here those of the bbox head, `samplings`.

        `refined` are the boxes that the bbox head makes of them, the proposals of the next stage.
        """
        del self, features, refined, targets
        return samplings

    @torch.no_grad()
    def next_proposals(
        self, results: BBoxResults, samplings: Sequence[SamplingResult], batch: ImageBatch
    ) -> list[Detections]:
        """The refined boxes of the sampled rois of each image."""
        # A positive is refined for the class of its ground truth, a negative for the class that scores highest.
        predicted = self.bbox_head.predicted_labels(results.cls_score)
        labels = results.targets.labels
        labels = predicted.where(labels == self.bbox_head.num_classes, labels)
        counts = [len(sampling.priors) for sampling in samplings]
        boxes = self.refine(results.rois, results.bbox_pred, labels, counts=counts, batch=batch)
        # The next stage's sampler adds the ground truth itself.
        return [
            _proposals(image[_is_proposal(sampling)])
            for image, sampling in zip(boxes, samplings, strict=True)
        ]

    def refine(
        self, rois: Tensor, bbox_pred: Tensor, labels: Tensor, *, counts: list[int], batch: ImageBatch
    ) -> list[Tensor]:
        """The boxes (n, 4) of each image that its rois become, each by the deltas of its class.

        Args:
            rois: (R, 5), image by image.
            bbox_pred: (R, K * 4) or (R, 4) deltas.
            labels: (R,) int64 foreground classes.
            counts: The number n of rois of each image.
            batch: The images.
        """
        parts = zip(*(torch.split(values, counts) for values in (rois, labels, bbox_pred)), strict=True)
        return [
            self.bbox_head.refined(image_rois, classes, deltas.float(), batch.sizes[index])
            for index, (image_rois, classes, deltas) in enumerate(parts)
        ]


def _unless_none(values: Iterable[T | None]) -> tuple[T, ...] | None:
    """The values of all stages; None where there are none."""
    present = tuple(value for value in values if value is not None)
    return present or None


def _built(configs: Iterable[ModuleConfig | None]) -> nn.ModuleList | None:
    """The modules of all stages; None where there are none."""
    present = _unless_none(configs)
    return None if present is None else nn.ModuleList(config.build() for config in present)


def _is_proposal(sampling: SamplingResult) -> Tensor:
    """(P + Q,) bool: not a ground-truth box that the sampler added. Positives come first."""
    return torch.cat([~sampling.pos_is_gt, torch.ones_like(sampling.neg_inds, dtype=torch.bool)])


def _proposals(boxes: Tensor) -> Detections:
    """Boxes (n, 4) as proposals, whose scores and classes no one reads."""
    zeros = boxes.new_zeros(len(boxes))
    return Detections(boxes=boxes, scores=zeros, labels=zeros.long())
