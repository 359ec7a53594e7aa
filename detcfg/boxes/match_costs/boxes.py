"""The costs of a box."""

from __future__ import annotations

from typing import Literal

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.cxcywh import to_xyxy
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.match_costs.base import MatchCostConfig


@frozen(kw_only=True)
class BBoxL1CostConfig(MatchCostConfig):
    """The sum of absolute differences of cx, cy, w and h in shares of the image (MMDetection's `BBoxL1Cost`)."""

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        del logits, labels
        return torch.cdist(boxes, targets.expand(len(boxes), -1, -1, -1), p=1)


@frozen(kw_only=True)
class IoUCostConfig(MatchCostConfig):
    """The negative IoU or generalised IoU (MMDetection's `IoUCost`)."""

    iou_mode: Literal["iou", "giou"] = "giou"
    """Which of the two."""

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        del logits, labels
        pairs = to_xyxy(boxes)[..., :, None, :], to_xyxy(targets)[:, None]
        return -bbox_overlaps(*pairs, mode=self.iou_mode, is_aligned=True, eps=1e-12)
