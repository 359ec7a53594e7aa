"""The base of the heads that classify rois and refine their boxes: targets, losses, decoding.

Shapes: R rois over the whole batch, P + Q sampled ones of an image; S the side of pooled features;
K classes. Rois are (R, 5) = (image index, x1, y1, x2, y2) in network pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import ModuleConfig, derived, is_unset
from detcfg.config.ranges import PositiveInt
from detcfg.layers.init import normal_init
from detcfg.layers.linear import LinearConfig, PredictorConfig
from detcfg.losses.base import ClassLossConfig, LossConfig, Reduction
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.l1 import L1LossConfig


@frozen(kw_only=True)
class BBoxHeadConfig(ModuleConfig):
    """A config that builds a `BBoxHead` (mmdet/models/roi_heads/bbox_heads/bbox_head.py)."""

    in_channels: PositiveInt = derived()
    """Channels of the pooled features."""
    roi_feat_size: PositiveInt = derived()
    """S: side of the pooled features."""
    num_classes: PositiveInt = derived()
    """K, without background."""
    bbox_coder: BBoxCoderConfig = DeltaXYWHBBoxCoderConfig(target_stds=(0.1, 0.1, 0.2, 0.2))
    """Encodes ground-truth boxes as deltas to their proposals, and decodes predicted deltas."""
    reg_class_agnostic: bool = False
    """Whether one box is predicted for all classes, rather than one for each class."""
    reg_decoded_bbox: bool = False
    """Whether `loss_bbox` compares decoded boxes, as IoU losses need, rather than deltas."""
    cls_predictor_cfg: PredictorConfig = LinearConfig()
    """The last layer of the classification branch."""
    reg_predictor_cfg: PredictorConfig = LinearConfig()
    """The last layer of the regression branch."""
    loss_cls: ClassLossConfig = CrossEntropyLossConfig()
    """The classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = L1LossConfig()
    """The box regression loss."""

    def wired(self) -> Self:
        wired = super().wired()
        if is_unset(wired.num_classes):
            return wired
        wired.loss_cls.check_classes(wired.cls_channels, wired.num_classes)
        return evolve(wired, loss_cls=wired.loss_cls.for_classes(wired.num_classes))

    @property
    def cls_channels(self) -> int:
        """Logits of a roi, background included."""
        return self.loss_cls.roi_cls_channels(self.num_classes)

    @property
    def reg_channels(self) -> int:
        """Deltas of a roi: those of one box, or of a box for each class."""
        size = self.bbox_coder.encode_size
        return size if self.reg_class_agnostic else size * self.num_classes

    @abstractmethod
    def build(self) -> BBoxHead: ...


@frozen(eq=False)
class BBoxTargets:
    """Classification and regression targets of the sampled rois of a batch."""

    labels: Tensor
    """(R,) int64; K for background."""
    label_weights: Tensor
    """(R,) float: weight in the classification loss."""
    bbox_targets: Tensor
    """(R, 4) float: encoded ground-truth boxes, or the boxes themselves if `reg_decoded_bbox`; 0 for negatives."""
    bbox_weights: Tensor
    """(R, 4) float: 1 for positives, 0 for negatives."""


class BBoxHead(nn.Module):
    """Pooled features (R, C, S, S) to logits (R, K + 1) and box deltas (R, K * 4) or (R, 4)."""

    def __init__(self, config: BBoxHeadConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.bbox_coder = config.bbox_coder
        self.reg_class_agnostic = config.reg_class_agnostic
        self.reg_decoded_bbox = config.reg_decoded_bbox
        self.loss_cls = config.loss_cls.build()
        self.loss_bbox = config.loss_bbox.build()

    def add_predictors(self, config: BBoxHeadConfig, cls_features: int, reg_features: int) -> None:
        """Set `fc_cls` and `fc_reg`, the last layers."""
        self.fc_cls = config.cls_predictor_cfg.build_for(cls_features, config.cls_channels)
        self.fc_reg = config.reg_predictor_cfg.build_for(reg_features, config.reg_channels)
        normal_init(self.fc_cls, std=0.01)
        normal_init(self.fc_reg, std=0.001)

    def forward(self, features: Tensor, /) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def targets(self, samplings: Sequence[SamplingResult], pos_weight: float = -1.0) -> BBoxTargets:
        """Targets of the sampled rois, image by image, positives first.

        Args:
            samplings: Of each image.
            pos_weight: Weight of positives in the classification loss; at most 0 for 1.
        """
        weight = pos_weight if pos_weight > 0 else 1.0
        parts = [self._image_targets(sampling, weight) for sampling in samplings]
        return BBoxTargets(
            labels=torch.cat([part.labels for part in parts]),
            label_weights=torch.cat([part.label_weights for part in parts]),
            bbox_targets=torch.cat([part.bbox_targets for part in parts]),
            bbox_weights=torch.cat([part.bbox_weights for part in parts]),
        )

    def _image_targets(self, sampling: SamplingResult, pos_weight: float) -> BBoxTargets:
        boxes = sampling.pos_gt_bboxes
        if not self.reg_decoded_bbox:
            boxes = self.bbox_coder.encode(sampling.pos_priors, boxes)
        count = len(sampling.priors)
        labels = sampling.pos_gt_labels.new_full((count,), self.num_classes)
        label_weights = boxes.new_ones(count)
        bbox_targets, bbox_weights = boxes.new_zeros(2, count, boxes.shape[-1])
        positive = slice(sampling.num_pos)
        labels[positive] = sampling.pos_gt_labels
        label_weights[positive] = pos_weight
        if sampling.neg_weights is not None:
            label_weights[sampling.num_pos :] = sampling.neg_weights
        bbox_targets[positive] = boxes
        bbox_weights[positive] = 1.0
        return BBoxTargets(
            labels=labels, label_weights=label_weights, bbox_targets=bbox_targets, bbox_weights=bbox_weights
        )

    def loss(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        targets: BBoxTargets,
        reduction_override: Reduction | None = None,
    ) -> dict[str, Tensor]:
        """`loss_cls`, averaged over the rois of weight > 0, and `loss_bbox`, summed over the positives and
        divided by R, the number of all sampled rois.
        """
        losses = self.cls_loss(cls_score, targets, reduction_override)
        positive = ((targets.labels >= 0) & (targets.labels < self.num_classes)).nonzero().squeeze(1)
        pred = self.boxes_of_labels(bbox_pred, targets.labels, positive)
        if self.reg_decoded_bbox:
            pred = self.bbox_coder.decode(rois[positive, 1:], pred)
        # Only positives have a box to regress, and yet R divides, not their number. R hardly changes, since the
        # sampler fills up with negatives, so every positive counts the same in whichever batch it is sampled;
        # divided by the number of positives, it would count the less the more of them its batch happens to have.
        # `loss_cls` is averaged over the same R rois: `loss_weight` alone sets the balance of the two.
        losses["loss_bbox"] = self.loss_bbox(
            pred,
            targets.bbox_targets[positive],
            targets.bbox_weights[positive],
            len(targets.bbox_targets),
            reduction_override,
        )
        return losses

    def cls_loss(
        self, cls_score: Tensor, targets: BBoxTargets, reduction_override: Reduction | None = None
    ) -> dict[str, Tensor]:
        """`loss_cls`, averaged over the rois of weight > 0."""
        count = (targets.label_weights > 0).sum().clamp(min=1).to(cls_score.dtype)
        return self.loss_cls.named(
            cls_score, targets.labels, targets.label_weights, count, reduction_override
        )

    def boxes_of_labels(self, bbox_pred: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """(n, 4): rows (n,) of `bbox_pred`, of each the box of its class, labels (R,)."""
        if self.reg_class_agnostic:
            return bbox_pred[rows]
        size = bbox_pred.shape[-1] // self.num_classes
        return torch.unflatten(bbox_pred, -1, (self.num_classes, size))[rows, labels[rows]]

    def sample_losses(self, cls_score: Tensor, labels: Tensor | None) -> Tensor:
        """(R,): per-sample classification loss, for hard example mining; labels (R,), None for background."""
        if labels is None:
            labels = torch.full_like(cls_score[:, 0], self.num_classes, dtype=torch.long)
        loss: Tensor = self.loss_cls(cls_score, labels, reduction_override="none")
        return loss if loss.dim() == 1 else loss.sum(dim=1)

    def probabilities(self, cls_score: Tensor) -> Tensor:
        """Logits (R, C) to the probabilities of the K classes, (R, K)."""
        return self.loss_cls.roi_probabilities(cls_score)[:, : self.num_classes]

    def predicted_labels(self, cls_score: Tensor) -> Tensor:
        """(R,): the foreground class with the highest score."""
        return cls_score[:, : self.num_classes].argmax(dim=1)

    def score_factors(self, bbox_pred: Tensor) -> Tensor | None:
        """(R,): factors of the scores that exceed `score_thr`; None: they stay as they are."""
        del bbox_pred
        return None  # mypy asks for it where a subclass may say more

    def decode(self, rois: Tensor, bbox_pred: Tensor, size: tuple[int, int]) -> Tensor:
        """The boxes that the rois (R, 5) of one image of (height, width) become, clipped to it.

        (R, K * 4), or (R, 4) where one is predicted for all classes.
        """
        # A coder is given a prior beside the deltas of each box, and so knows nothing of classes.
        per_roi = bbox_pred.shape[-1] // self.bbox_coder.encode_size
        deltas = torch.unflatten(bbox_pred, -1, (per_roi, self.bbox_coder.encode_size)).flatten(0, 1)
        priors = rois[:, 1:].repeat_interleave(per_roi, dim=0)
        return self.bbox_coder.decode(priors, deltas, max_shape=size).reshape(len(rois), per_roi * 4)

    def refined(self, rois: Tensor, labels: Tensor, bbox_pred: Tensor, size: tuple[int, int]) -> Tensor:
        """(R, 4): the predicted box of each roi for its class, labels (R,)."""
        rows = torch.arange(len(rois), device=rois.device)
        return self.decode(rois, self.boxes_of_labels(bbox_pred, labels, rows), size)
