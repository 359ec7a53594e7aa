"""The RoI head of Dynamic R-CNN: IoU thresholds rise and the box loss sharpens as the proposals become better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import Config, ConfigError
from detcfg.config.ranges import Fraction, PositiveFloat, PositiveInt
from detcfg.heads.bbox.bbox_head import BBoxHeadConfig, BBoxTargets
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.roi.stage import BBoxResults
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.layers.training_state import HasTrainingState
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import Detections, ImageBatch, Targets

EPS: Final = 1e-15
"""The least beta that is set: the loss divides by it."""


@frozen(kw_only=True)
class DynamicTrainConfig(Config):
    """How the IoU threshold of the assigner and the beta of the smooth L1 loss follow the proposals."""

    iou_topk: PositiveInt = 75
    """Of each image the IoU of this rank among its proposals, from above; their mean becomes the threshold."""
    beta_topk: PositiveInt = 10
    """Of each step the regression target of this rank (times the images), from below; their median becomes beta."""
    update_iter_interval: PositiveInt = 100
    """Training steps from one update to the next."""
    initial_iou: Fraction = 0.4
    """The least IoU threshold that is set."""
    initial_beta: PositiveFloat = 1.0
    """The greatest beta that is set."""


@frozen(kw_only=True)
class DynamicRoIHeadConfig(StandardRoIHeadConfig):
    """Dynamic R-CNN (Zhang et al., 2020, https://arxiv.org/abs/2004.06002).

    Follows mmdet/models/roi_heads/dynamic_roi_head.py.
    """

    bbox_head: BBoxHeadConfig = Shared2FCBBoxHeadConfig(loss_bbox=SmoothL1LossConfig(beta=1.0))
    """Classifies rois and refines their boxes; its `loss_bbox` has a beta."""
    assigner: MaxIoUAssignerConfig = MaxIoUAssignerConfig(
        pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False
    )
    """Assigns ground-truth boxes to proposals, until `dynamic_rcnn` sets its thresholds."""
    dynamic_rcnn: DynamicTrainConfig = DynamicTrainConfig()
    """How the threshold and beta follow the proposals."""

    def wired(self) -> Self:
        wired = super().wired()
        loss = wired.bbox_head.loss_bbox
        if not isinstance(loss, SmoothL1LossConfig):
            raise ConfigError(
                f"bbox_head.loss_bbox is {type(loss).__name__}, but dynamic_rcnn changes the beta of a "
                "SmoothL1LossConfig. Give the bbox head that loss, or use StandardRoIHeadConfig."
            )
        return wired

    def build(self) -> DynamicRoIHead:
        return DynamicRoIHead(self.resolved())


class DynamicRoIHead(StandardRoIHead, HasTrainingState):
    """Updates the IoU thresholds of `assigner` and the beta of `loss_bbox` every `update_iter_interval` steps."""

    def __init__(self, config: DynamicRoIHeadConfig) -> None:
        super().__init__(config)
        self.iou_assigner = config.assigner
        self.dynamic_rcnn = config.dynamic_rcnn
        loss = config.bbox_head.loss_bbox
        assert isinstance(loss, SmoothL1LossConfig)
        self.loss_bbox = loss
        self.iou: float | None = None
        """The threshold that was set last; None: the config's are in use."""
        # They stay on the device until the next update, so that a step waits for nothing.
        self.iou_history: list[Tensor] = []
        self.beta_history: list[Tensor] = []

    def loss(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> dict[str, Tensor]:
        losses = super().loss(features, proposals, batch, targets)
        if self.training and len(self.iou_history) == self.dynamic_rcnn.update_iter_interval:
            self.update_hyperparameters()
        return losses

    def assign(self, proposals: Sequence[Detections], targets: Sequence[Targets]) -> list[Assignment]:
        assignments = super().assign(proposals, targets)
        if self.training:
            overlaps = [assignment.max_overlaps for assignment in assignments]
            self.iou_history.append(torch.stack([self._iou_of_rank(image) for image in overlaps]).mean())
        return assignments

    def _iou_of_rank(self, overlaps: Tensor) -> Tensor:
        """The `iou_topk`-th largest IoU of an image's proposals (A,); 0 where it has none."""
        rank = min(self.dynamic_rcnn.iou_topk, len(overlaps))
        return overlaps.topk(rank).values[-1] if rank else overlaps.new_zeros(())

    def bbox_loss(self, results: BBoxResults, samplings: Sequence[SamplingResult]) -> dict[str, Tensor]:
        if self.training:
            self._record_error(results.targets, len(samplings))
        return super().bbox_loss(results, samplings)

    def _record_error(self, targets: BBoxTargets, num_images: int) -> None:
        """Note the regression target of rank `beta_topk` an image, from below, among all positives."""
        errors = targets.bbox_targets[targets.bbox_weights[:, 0] > 0, :2].abs().mean(dim=1)
        if len(errors):
            rank = min(self.dynamic_rcnn.beta_topk * num_images, len(errors))
            self.beta_history.append(errors.kthvalue(rank).values)

    def update_hyperparameters(self) -> None:
        """Set the thresholds and beta from what was noted since the last update."""
        dynamic = self.dynamic_rcnn
        iou = max(dynamic.initial_iou, float(torch.stack(self.iou_history).mean()))
        self._set_threshold(iou)
        # The median of an even number is the mean of the middle two.
        beta = float(torch.stack(self.beta_history).quantile(0.5)) if self.beta_history else 0.0
        if beta >= EPS:
            self._set_beta(min(dynamic.initial_beta, beta))
        self.iou_history, self.beta_history = [], []

    def _set_threshold(self, iou: float) -> None:
        self.iou = iou
        self.assigner = evolve(self.iou_assigner, pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou)

    def _set_beta(self, beta: float) -> None:
        self.loss_bbox = evolve(self.loss_bbox, beta=beta)
        self.bbox_head.loss_bbox = self.loss_bbox.build()

    def training_state(self) -> dict[str, Any]:
        return {
            "iou": self.iou,
            "beta": self.loss_bbox.beta,
            "iou_history": [float(value) for value in self.iou_history],
            "beta_history": [float(value) for value in self.beta_history],
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        if state["iou"] is not None:
            self._set_threshold(state["iou"])
        self._set_beta(state["beta"])
        device = next(self.parameters()).device
        self.iou_history, self.beta_history = (
            list(torch.tensor(state[name], device=device).unbind())
            for name in ("iou_history", "beta_history")
        )
