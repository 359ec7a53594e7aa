"""What DETR's queries predict, how they are matched, and what it costs (mmdet/models/dense_heads/detr_head.py).

Shapes: B images, Q queries, K classes, C channels, L decoder layers, P pairs of a query and an object over all layers.
Boxes are (cx, cy, w, h) in shares of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.assigners.hungarian import HungarianAssignerConfig
from detcfg.boxes.cxcywh import logit, to_xyxy
from detcfg.boxes.match_costs.boxes import BBoxL1CostConfig, IoUCostConfig
from detcfg.boxes.match_costs.classification import ClassificationCostConfig
from detcfg.config import Config, ModuleConfig, derived
from detcfg.config.ranges import CountOrAll, NonNegativeFloat, PositiveInt
from detcfg.heads.query.base import best
from detcfg.heads.query.detr_decoder import Decoded
from detcfg.heads.query.set_criterion import At, Objects, located
from detcfg.layers.ffn import FFN
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.precision import widened
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class DETRTestConfig(Config):
    """What becomes of predictions."""

    max_per_img: CountOrAll = 100
    """The best so many are the detections of an image, of Q queries, or of Q * K scores where classes are
    independent; -1 for all."""


@frozen(kw_only=True)
class DETRHeadConfig(ModuleConfig):
    """A class and a box a query, and their matching (DETR, Carion et al., 2020, https://arxiv.org/abs/2005.12872)."""

    num_classes: PositiveInt = derived()
    """K: classes of the data, without background."""
    embed_dims: PositiveInt = derived()
    """C."""
    num_reg_fcs: PositiveInt = 2
    """Linear layers before that of the boxes, at least two; 1 counts as 2."""
    bg_cls_weight: NonNegativeFloat = 0.1
    """Weight of queries without an object in the loss of a softmax; where classes are independent it is 1."""
    loss_cls: ClassLossConfig = CrossEntropyLossConfig()
    """The loss of the class scores."""
    loss_bbox: LossConfig = L1LossConfig(loss_weight=5.0)
    """The loss of the boxes as centre and size, in shares of the image."""
    loss_iou: LossConfig = GIoULossConfig(loss_weight=2.0)
    """The loss of the boxes as corners, in pixels."""
    assigner: HungarianAssignerConfig = HungarianAssignerConfig(
        match_costs=(
            ClassificationCostConfig(),
            BBoxL1CostConfig(weight=5.0),
            IoUCostConfig(weight=2.0),
        )
    )
    """Matches predictions with ground-truth boxes."""
    test_cfg: DETRTestConfig = DETRTestConfig()
    """What becomes of predictions."""

    def wired(self) -> Self:
        wired = super().wired()
        return evolve(wired, loss_cls=wired.loss_cls.for_classes(wired.num_classes))

    def build(self) -> DETRHead:
        return DETRHead(self.resolved())


class DETRHead(nn.Module):
    """Predicts from the decoder's queries after each layer; each layer has a matching of its own.

    Losses are those of the last layer by their names, and those of layer i before it with `d{i}.` before them. They are
    divided by the matched queries (their mean over processes); that of classes counts the others by `bg_cls_weight`.
    """

    def __init__(self, config: DETRHeadConfig) -> None:
        super().__init__()
        self.num_classes, self.max_per_img = config.num_classes, config.test_cfg.max_per_img
        dims = config.embed_dims
        self.assigner = config.assigner
        self.loss_cls, self.loss_bbox = config.loss_cls.build(), config.loss_bbox.build()
        self.loss_iou = config.loss_iou.build()
        self.bg_cls_weight = 0.0 if self.loss_cls.use_sigmoid else config.bg_cls_weight
        self.fc_cls = nn.Linear(dims, config.loss_cls.cls_channels(config.num_classes))
        self.activate = nn.ReLU()
        self.reg_ffn = FFN(dims, dims, num_fcs=config.num_reg_fcs, add_identity=False)
        self.fc_reg = nn.Linear(dims, 4)

    def forward(self, decoded: Decoded) -> tuple[Tensor, Tensor]:
        """Logits (L, B, Q, K), with background K + 1, and boxes (L, B, Q, 4)."""
        boxes = widened(self.fc_reg(self.activate(self.reg_ffn(decoded.states))))
        if decoded.references is not None:
            center = boxes[..., :2] + logit(widened(decoded.references))
            boxes = torch.cat([center, boxes[..., 2:]], dim=-1)
        return widened(self.fc_cls(decoded.states)), boxes.sigmoid()

    def loss(self, decoded: Decoded, batch: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The losses by name, each a scalar.

        Args:
            decoded: The queries.
            batch: The images.
            targets: The ground truth of each image.
        """
        logits, boxes = self(decoded)
        objects = Objects.of(targets, batch, batch.sizes)
        pairs = self.assigner.match(logits.detach(), boxes.detach(), objects.labels, objects.boxes)
        at = located(pairs, objects, logits.device)
        layers, matched = len(logits), len(pairs) / len(logits)
        others = logits.shape[1] * logits.shape[2] - matched
        count = shared_factor(matched, logits)
        losses = {
            "loss_cls": self._class_losses(logits, at)
            / shared_factor(matched + self.bg_cls_weight * others, logits)
        }
        pred = boxes[at.sets, at.images, at.queries]
        loss_bbox = self.loss_bbox(pred, at.boxes, reduction_override="none")
        pixels = _pixels(batch.sizes).to(pred)[at.images]
        loss_iou = self.loss_iou(
            to_xyxy(pred) * pixels, to_xyxy(at.boxes) * pixels, reduction_override="none"
        )
        losses["loss_bbox"] = loss_bbox.view(layers, -1, 4).sum(dim=(1, 2)) / count
        losses["loss_iou"] = loss_iou.view(layers, -1).sum(dim=1) / count
        return {
            f"d{layer}.{name}" if layer < layers - 1 else name: values[layer]
            for layer in (layers - 1, *range(layers - 1))
            for name, values in losses.items()
        }

    def _class_losses(self, logits: Tensor, at: At) -> Tensor:
        """(L,), summed over images and queries."""
        labels = torch.full(logits.shape[:3], self.num_classes, device=logits.device)
        labels[at.sets, at.images, at.queries] = at.labels
        labels = labels.flatten()
        weight = None
        if not self.loss_cls.use_sigmoid:
            weight = torch.where(labels == self.num_classes, self.bg_cls_weight, 1.0)
        losses: Tensor = self.loss_cls(logits.flatten(0, 2), labels, weight, reduction_override="none")
        return losses.view(len(logits), -1).sum(dim=1)

    def predict(self, decoded: Decoded, batch: ImageBatch) -> list[Detections]:
        """The detections of each image, in output pixels, within it."""
        logits, boxes = (x[0] for x in self(decoded._replace(states=decoded.states[-1:])))
        scores = self.loss_cls.dense_probabilities(logits)
        if self.loss_cls.use_sigmoid:
            scores = scores.flatten(1)
            labels = torch.arange(scores.shape[1], device=scores.device).expand_as(scores) % self.num_classes
        else:
            scores, labels = scores.max(dim=-1)
        scores, index = best(scores, self.max_per_img)
        labels = labels.gather(1, index)
        query = index // self.num_classes if self.loss_cls.use_sigmoid else index
        found = to_xyxy(boxes.gather(1, query[..., None].expand(-1, -1, 4))).clamp(0, 1)
        output = [batch.scales(i) * 2 for i in range(len(batch))]
        found = found * (_pixels(batch.sizes) * torch.tensor(output)).to(found)[:, None]
        return [Detections(boxes=found[i], scores=scores[i], labels=labels[i]) for i in range(len(batch))]


def _pixels(sizes: Sequence[tuple[int, int]]) -> Tensor:
    """(B, 4): what carries boxes (x1, y1, x2, y2) in shares of an image to its pixels."""
    return torch.tensor([(width, height) * 2 for height, width in sizes], dtype=torch.float32)
