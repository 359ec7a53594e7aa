"""Non-maximum suppression of masks, all at once. N masks of one image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from detcfg.precision import without_autocast


def matrix_nms(
    masks: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    kernel: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 2.0,
) -> Tensor:
    """Scores, decayed by the better masks of the same class that each overlaps (SOLOv2).

    Wang et al., 2020, https://arxiv.org/abs/2003.10152.

    Args:
        masks: (N, H, W) bool, by falling score.
        scores: (N,), falling.
        labels: (N,) int64.
        kernel: The decay by an overlap: exp(-sigma * IoU^2) ("gaussian") or 1 - IoU ("linear").
        sigma: Of "gaussian"; the larger, the more scores decay.

    Returns:
        (N,). The factor of a mask is the least of decay(IoU with a better mask) / decay(the most
        that the better mask itself is overlapped).

    Follows mmdet/models/layers/matrix_nms.py.
    """
    flat = masks.flatten(1).float()
    areas = flat.sum(dim=1)
    with without_autocast(flat):  # it counts pixels
        intersection = flat @ flat.T
    iou = intersection / (areas[:, None] + areas[None, :] - intersection)
    same = labels[:, None] == labels[None, :]
    iou = (iou * same).triu(diagonal=1)  # (better mask, worse mask)
    overlapped = iou.amax(dim=0)[:, None]
    if kernel == "gaussian":
        decay = torch.exp(-sigma * iou**2) / torch.exp(-sigma * overlapped**2)
    else:
        decay = (1 - iou) / (1 - overlapped)
    return scores * decay.amin(dim=0)
