"""The head of FreeAnchor.

Shapes: B images; A anchors over all levels; K classes; N ground-truth objects of one image, k anchors in the bag
of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.max_iou import MAX_PAIRS
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.iou import bbox_overlaps
from detcfg.config.ranges import Fraction, NonNegativeFloat, PositiveInt
from detcfg.heads.anchor_based.retina_head import RetinaHead, RetinaHeadConfig
from detcfg.losses.base import LossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import ImageBatch, Targets

EPS = 1e-12


@frozen(kw_only=True)
class FreeAnchorRetinaHeadConfig(RetinaHeadConfig):
    """Matching is learned: each object has a bag of anchors, of which the best count (Zhang et al., 2019).

    https://arxiv.org/abs/1909.02466. Its losses take the place of `loss_cls`, and there is no
    assigner. Follows mmdet/models/dense_heads/free_anchor_retina_head.py.
    """

    pre_anchor_topk: PositiveInt = 50
    """k: anchors in the bag of each object."""
    bbox_thr: Fraction = 0.6
    """Up to this IoU, a predicted box is no object's; usually that of the NMS."""
    gamma: NonNegativeFloat = 2.0
    """Focusing parameter: larger values down-weight easy negatives more."""
    alpha: Fraction = 0.5
    """Weight of the positives; negatives weigh 1 - alpha."""
    bbox_coder: BBoxCoderConfig = DeltaXYWHBBoxCoderConfig(target_stds=(0.1, 0.1, 0.2, 0.2))
    """Encodes ground-truth boxes as deltas to their priors, and decodes predicted deltas."""
    loss_bbox: LossConfig = SmoothL1LossConfig(beta=0.11, loss_weight=0.75)
    """Box regression loss."""

    def build(self) -> FreeAnchorRetinaHead:
        return FreeAnchorRetinaHead(self.resolved())


class FreeAnchorRetinaHead(RetinaHead):
    """RetinaNet's layers with losses of bags."""

    def __init__(self, config: FreeAnchorRetinaHeadConfig) -> None:
        super().__init__(config)
        self.pre_anchor_topk = config.pre_anchor_topk
        self.bbox_thr = config.bbox_thr
        self.gamma = config.gamma
        self.alpha = config.alpha

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        del batch
        cls_scores, bbox_preds = predictions
        anchors = torch.cat(list(self.priors(cls_scores)))
        probs, deltas = self.flat_scores(cls_scores).sigmoid(), self.flat_deltas(bbox_preds)
        images = [objects.not_ignored for objects in targets]
        positive = [
            self.positive_bag_loss(prob, delta, anchors, objects)
            for prob, delta, objects in zip(probs, deltas, images, strict=True)
        ]
        taken = torch.stack(
            [
                self.box_probability(delta, anchors, objects)
                for delta, objects in zip(deltas, images, strict=True)
            ]
        )
        count = sum(len(objects) for objects in images)
        negative = self.negative_bag_loss(probs, taken).sum()
        return {
            "positive_bag_loss": torch.cat(positive).sum() / shared_factor(count, probs),
            "negative_bag_loss": negative / shared_factor(count * self.pre_anchor_topk, probs),
        }

    def positive_bag_loss(self, probs: Tensor, deltas: Tensor, anchors: Tensor, objects: Targets) -> Tensor:
        """(N,): -log of the mean-max, over an object's bag, of P(class) * P(box).

        Args:
            probs: (A, C), of one image.
            deltas: (A, 4).
            anchors: (A, 4).
            objects: The N objects, without ignored ones.
        """
        if len(objects) == 0:
            return deltas.sum() * 0 + deltas.new_zeros(1)  # keeps the graph
        bags = self._bags(anchors, objects.boxes)
        labels = objects.labels[:, None].expand_as(bags)
        target = self.bbox_coder.encode(
            anchors[bags].flatten(0, 1), objects.boxes.repeat_interleave(bags.shape[1], dim=0)
        )
        distance = self.loss_bbox(deltas[bags.flatten()], target, reduction_override="none").sum(-1)
        matched = probs[bags, labels] * torch.exp(-distance).reshape(bags.shape)
        bag = mean_max(matched).clamp(max=1)  # rounding may lead beyond
        return self.alpha * F.binary_cross_entropy(bag, torch.ones_like(bag), reduction="none")

    @torch.no_grad()
    def box_probability(self, deltas: Tensor, anchors: Tensor, objects: Targets) -> Tensor:
        """(A, C): how probable it is that an anchor's box is an object's of a class, by its IoU.

        It rises from 0 at `bbox_thr` to 1 at the highest IoU that any box has with the object.
        """
        boxes = self.bbox_coder.decode(anchors, deltas)
        found = boxes.new_zeros(self.cls_out_channels, len(anchors))
        for part in _parts(objects, len(anchors)):
            overlaps = bbox_overlaps(part.boxes, boxes)
            highest = overlaps.amax(dim=1, keepdim=True).clamp(min=self.bbox_thr + EPS)
            probability = ((overlaps - self.bbox_thr) / (highest - self.bbox_thr)).clamp(0, 1)
            index = part.labels[:, None].expand_as(probability)
            found = found.scatter_reduce(0, index, probability, "amax")
        return found.T

    def negative_bag_loss(self, probs: Tensor, taken: Tensor) -> Tensor:
        """(B, A, C): focal loss of the probability that an anchor finds a class and is no object's."""
        probs = (probs * (1 - taken)).clamp(EPS, 1 - EPS)
        entropy = F.binary_cross_entropy(probs, torch.zeros_like(probs), reduction="none")
        return (1 - self.alpha) * probs**self.gamma * entropy

    def _bags(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """(N, k): for each object the anchors that overlap it most."""
        size = min(self.pre_anchor_topk, len(anchors))
        parts = torch.split(boxes, max(1, MAX_PAIRS // len(anchors)))
        return torch.cat([bbox_overlaps(part, anchors).topk(size, dim=1).indices for part in parts])


def _parts(objects: Targets, num_anchors: int) -> list[Targets]:
    """The objects, so many at a time that pairs with all anchors fit into memory."""
    size = max(1, MAX_PAIRS // num_anchors)
    numbers = torch.arange(len(objects), device=objects.boxes.device)
    return [objects[part] for part in torch.split(numbers, size)] if len(objects) else []


def mean_max(probabilities: Tensor) -> Tensor:
    """(N, k) to (N,): a mean that comes near the maximum once that is near 1."""
    weight = 1 / (1 - probabilities).clamp(min=EPS)
    return (weight * probabilities).sum(dim=1) / weight.sum(dim=1)
