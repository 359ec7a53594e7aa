"""The head of AutoAssign.

Shapes: B images; features are (B, C, H_i, W_i); A points over all levels, one at each location; K classes;
N ground-truth objects of one image; M pairs of an object and a point in its box.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.boxes.geometry import centres, inside
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.nms import NMSConfig
from detcfg.config.ranges import NonNegativeFloat, PositiveInt
from detcfg.heads.anchor_free.anchor_free_head import AnchorFreeHead, AnchorFreeHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import flatten_levels, per_level
from detcfg.heads.dense.towers import init_classifier, init_convs
from detcfg.layers.init import normal_init
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.losses.base import LossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets

EPS = 1e-12
CONFIDENCE = 3.0
"""How much confident points count more than others of their object."""


@frozen(kw_only=True)
class AutoAssignHeadConfig(AnchorFreeHeadConfig):
    """The assignment of points to objects is learned as well (Zhu et al., 2020).

    https://arxiv.org/abs/2007.03496. Its losses take the place of `loss_cls`. Follows
    mmdet/models/dense_heads/autoassign_head.py.
    """

    conv_bias: bool = True
    """Whether the layers of the towers have a bias."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    prior_generator: MlvlPointGeneratorConfig = MlvlPointGeneratorConfig(offset=0.0)
    """The points of each level; its strides must be those of the feature maps."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=5.0)
    """Box regression loss."""
    force_topk: bool = False
    """Whether objects around no point are paired with the points near them."""
    topk: PositiveInt = 9
    """With how many."""
    pos_loss_weight: NonNegativeFloat = 0.25
    """Weight of the loss of positives."""
    neg_loss_weight: NonNegativeFloat = 0.75
    """Weight of the loss of negatives."""
    center_loss_weight: NonNegativeFloat = 0.75
    """Weight of the loss that draws the center prior of each class to where its objects are."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def build(self) -> AutoAssignHead:
        return AutoAssignHead(self.resolved())


class AutoAssignHead(AnchorFreeHead):
    """Predicts class logits, distances in pixels and logits of the objectness."""

    def __init__(self, config: AutoAssignHeadConfig) -> None:
        super().__init__(config)
        self.conv_cls = nn.Conv2d(config.tower_channels, self.cls_out_channels, 3, padding=1)
        self.conv_reg = nn.Conv2d(config.tower_channels, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(config.tower_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)
        self.center_prior = CenterPrior(config.num_classes, force_topk=config.force_topk, topk=config.topk)
        self.pos_loss_weight = config.pos_loss_weight
        self.neg_loss_weight = config.neg_loss_weight
        self.center_loss_weight = config.center_loss_weight
        init_convs(self)
        init_classifier(self.conv_cls, prior_prob=0.02)
        normal_init(self.conv_reg, std=0.01, bias=4.0)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        boxes = self.reg_convs(feature)
        distances = self.scales[level](self.conv_reg(boxes)).clamp(min=0) * self.strides[level]
        return self.conv_cls(self.cls_convs(feature)), distances, self.conv_centerness(boxes)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds, objectnesses = predictions
        levels = self.priors(cls_scores)
        points, strides = torch.cat(list(levels)), per_level(self.strides, levels)
        scores = flatten_levels(cls_scores, self.cls_out_channels).sigmoid()
        joint = scores * flatten_levels(objectnesses, 1).sigmoid()
        boxes = self.bbox_coder.decode(points.expand(len(batch), -1, -1), flatten_levels(bbox_preds, 4))

        positive: list[Tensor] = []
        negative: list[Tensor] = []
        central: list[Tensor] = []
        priors: list[Tensor] = []
        for confidence, predicted, target in zip(joint, boxes, targets, strict=True):
            objects = target.not_ignored
            gt_inds, point = self.center_prior.pairs(points, strides, objects)
            prior = self.center_prior(points[point], strides[point], objects[gt_inds])
            paired = confidence[point, objects.labels[gt_inds]]
            distance = self.loss_bbox(predicted[point], objects.boxes[gt_inds], reduction_override="none")
            positive.append(positive_loss(paired * torch.exp(-distance), prior, gt_inds, len(objects)))
            weights = negative_weights(predicted.detach(), objects, gt_inds, point, confidence.shape[1])
            negative.append(negative_loss(confidence * weights))
            # The priors of an image's objects are to be as high as its objects are many.
            surplus = len(objects) / prior.sum().clamp(min=EPS)
            central.append(surplus if len(prior) else prior.sum() * 0)
            priors.append(prior.detach().sum())
        count = sum(len(target.not_ignored) for target in targets)
        unused = self.center_prior.mean.sum() * 0 + self.center_prior.sigma.sum() * 0 + boxes.sum() * 0
        return {
            "loss_pos": self.pos_loss_weight * torch.stack(positive).sum() / shared_factor(count, points)
            + unused,
            "loss_neg": self.neg_loss_weight
            * torch.stack(negative).sum()
            / shared_factor(torch.stack(priors).sum(), points),
            "loss_center": self.center_loss_weight * torch.stack(central).mean(),
        }


def positive_loss(confidence: Tensor, prior: Tensor, gt_inds: Tensor, num_objects: int) -> Tensor:
    """-log of the mean confidence of each object's points, weighed by confidence and prior, summed.

    Args:
        confidence: (M,), P(class) * P(box) of each pair.
        prior: (M,).
        gt_inds: (M,) int64, the object of each pair.
        num_objects: N. An object of no pair has the highest loss that there is.
    """
    none = confidence.new_zeros(num_objects)
    weight = torch.exp(CONFIDENCE * confidence) * prior
    total = none.index_add(0, gt_inds, weight).clamp(min=EPS)
    mean = none.index_add(0, gt_inds, confidence * weight / total[gt_inds]).clamp(max=1)
    return F.binary_cross_entropy(mean, torch.ones_like(mean), reduction="sum")


def negative_loss(probabilities: Tensor) -> Tensor:
    """Focal loss of probabilities (A, K) that should be 0, summed."""
    entropy = F.binary_cross_entropy(probabilities, torch.zeros_like(probabilities), reduction="none")
    return (probabilities**2 * entropy).sum()


@torch.no_grad()
def negative_weights(boxes: Tensor, objects: Targets, gt_inds: Tensor, point: Tensor, classes: int) -> Tensor:
    """(A, K): 1 at most, less where a point's box fits an object of a class that it is paired with.

    Among an object's points it falls from 1 to 0 with 1 / (1 - IoU), of the best IoU with any object.

    Args:
        boxes: (A, 4), what each point predicts.
        objects: The N objects, without ignored ones.
        gt_inds: (M,) int64, the object of each pair; ascending.
        point: (M,) int64, the point of each pair.
        classes: K.
    """
    weights = boxes.new_ones(len(boxes) * classes)
    if len(gt_inds) == 0:
        return weights.reshape(-1, classes)
    overlap = bbox_overlaps(boxes, objects.boxes).amax(dim=1)[point]
    fit = 1 / (1 - overlap).clamp(min=EPS)
    none = fit.new_zeros(len(objects))
    least = none.scatter_reduce(0, gt_inds, fit, "amin", include_self=False)[gt_inds]
    most = none.scatter_reduce(0, gt_inds, fit, "amax", include_self=False)[gt_inds]
    normed = (fit - least + EPS) / (most - least + EPS)
    # Of several objects of one class around a point, the last one counts.
    cell = point * classes + objects.labels[gt_inds]
    last = torch.full_like(weights, -1, dtype=torch.long)
    last = last.scatter_reduce(0, cell, torch.arange(len(cell), device=cell.device), "amax")
    return torch.where(last >= 0, 1 - normed[last], weights).reshape(-1, classes)


class CenterPrior(nn.Module):
    """A normal distribution for each class around its objects' centres, in strides (AutoAssign).

    Args:
        num_classes: How many distributions.
        force_topk: Whether objects around no point get the points of highest prior.
        topk: How many of them.

    Follows mmdet/models/dense_heads/autoassign_head.py.
    """

    def __init__(self, num_classes: int, *, force_topk: bool = False, topk: int = 9) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(num_classes, 2))
        self.sigma = nn.Parameter(torch.ones(num_classes, 2))
        self.force_topk = force_topk
        self.topk = topk

    def forward(self, points: Tensor, strides: Tensor, objects: Targets) -> Tensor:
        """The prior (M,) in [0, 1] of each pair of a point (M, 2), on a level of a stride (M,), and an object."""
        distance = ((points - centres(objects.boxes)) / strides[:, None] - self.mean[objects.labels]) ** 2
        return torch.exp(-distance / (2 * self.sigma[objects.labels] ** 2)).prod(dim=-1)

    def pairs(self, points: Tensor, strides: Tensor, objects: Targets) -> tuple[Tensor, Tensor]:
        """The object and the point of each pair (M,), by object and then by point: the points inside each box.

        Args:
            points: (A, 2).
            strides: (A,).
            objects: The N objects, without ignored ones.
        """
        paired = inside(points, objects.boxes, 0).T
        if self.force_topk and len(objects):
            lonely = torch.nonzero(~paired.any(dim=1)).squeeze(1)
            for index in lonely:
                alone = objects[index.expand(len(points))]
                best = self(points, strides, alone).topk(min(self.topk, len(points))).indices
                paired[index, best] = True
        gt_inds, point = paired.nonzero(as_tuple=True)
        return gt_inds, point
