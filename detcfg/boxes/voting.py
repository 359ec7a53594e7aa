"""Score voting: detected boxes averaged with the candidates around them.

Shapes: D detections and M candidates of one image.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from detcfg.boxes.assigners.max_iou import MAX_PAIRS
from detcfg.boxes.iou import bbox_overlaps
from detcfg.precision import without_autocast
from detcfg.structures import Detections

WIDTH: Final = 0.025
"""Of the Gaussian of 1 - IoU by which a candidate is weighted."""
LEAST_OVERLAP: Final = 0.01
"""Candidates that overlap less have no vote."""


def vote(detections: Detections, candidates: Detections) -> Tensor:
    """(D, 4): each detected box as the weighted mean of the candidates of its class.

    A candidate's weight is score * exp(-(1 - IoU)^2 / 0.025) (PAA, Kim and Lee, 2020,
    https://arxiv.org/abs/2007.08103). Follows mmdet/models/dense_heads/paa_head.py.
    """
    if len(detections) == 0:
        return detections.boxes
    voted: list[Tensor] = []
    numbers = torch.arange(len(detections), device=detections.boxes.device)
    for part in torch.split(numbers, max(1, MAX_PAIRS // max(1, len(candidates)))):
        overlaps = bbox_overlaps(detections.boxes[part], candidates.boxes)
        votes = torch.exp(-((1 - overlaps) ** 2) / WIDTH) * candidates.scores
        same = detections.labels[part][:, None] == candidates.labels
        votes = votes * (same & (overlaps > LEAST_OVERLAP))
        total = votes.sum(dim=1, keepdim=True)
        # A box without area overlaps nothing, itself included: it has no votes and stays where it is.
        with without_autocast(votes):  # bf16 holds whole pixels up to 256
            mean = votes @ candidates.boxes / total
        voted.append(mean.where(total > 0, detections.boxes[part]))
    return torch.cat(voted)
