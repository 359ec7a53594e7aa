"""Non-maximum suppression that lowers scores rather than removing boxes.

Shapes: N candidates of one image.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import field, frozen, validators
from torch import Tensor

from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.nms import NMSConfig


@frozen(kw_only=True)
class SoftNMSConfig(NMSConfig):
    """Soft-NMS (Bodla et al., 2017, https://arxiv.org/abs/1704.04503).

    The best box is kept, the scores of those that overlap it are lowered, and so on. Follows `soft_nms` in
    mmcv/ops/nms.py, which works on the CPU too.
    """

    iou_threshold: float = field(default=0.3, validator=[validators.ge(0), validators.le(1)])
    """Boxes that overlap at least this much are lowered; "gaussian" lowers all."""
    sigma: float = field(default=0.5, validator=validators.gt(0))
    """Of "gaussian": the larger, the less scores are lowered."""
    min_score: float = 1e-3
    """Boxes whose score falls below it are gone."""
    method: Literal["naive", "linear", "gaussian"] = "linear"
    """Scores are multiplied by 0, by 1 - IoU or by exp(-IoU^2 / sigma)."""

    def survivors(self, boxes: Tensor, scores: Tensor, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
        del groups  # the shifted boxes tell
        left, score = boxes.detach().cpu(), scores.detach().cpu()
        index = torch.arange(len(left))
        kept: list[Tensor] = []
        found: list[Tensor] = []
        # One after another, as each box that is kept changes which is the best of the others. With the
        # values on the CPU, no step waits for a device.
        while len(left):
            best = score.argmax()
            kept.append(index[best])
            found.append(score[best])
            score = score * self.decay(bbox_overlaps(left[best][None], left).squeeze(0))
            remaining = score >= self.min_score
            remaining[best] = False
            left, score, index = left[remaining], score[remaining], index[remaining]
        return torch.stack(kept).to(boxes.device), torch.stack(found).to(boxes.device)

    def decay(self, ious: Tensor) -> Tensor:
        """What the scores of boxes are multiplied by, (n,), by their overlaps (n,) with one that is kept."""
        if self.method == "gaussian":
            return torch.exp(-ious.square() / self.sigma)
        lowered = ious >= self.iou_threshold
        return torch.where(lowered, 0.0 if self.method == "naive" else 1 - ious, 1.0)
