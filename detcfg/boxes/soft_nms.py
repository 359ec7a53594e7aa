"""Non-maximum suppression that lowers scores rather than removing boxes.

Shapes: N candidates of one image.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.nms import NMSConfig
from detcfg.config.ranges import Fraction, PositiveFloat


@frozen(kw_only=True)
class SoftNMSConfig(NMSConfig):
    """Soft-NMS (Bodla et al., 2017, https://arxiv.org/abs/1704.04503).

    The best box is kept, the scores of those that overlap it are decayed, and so on. Follows `soft_nms` in
    mmcv/ops/nms.py, which works on the CPU too.
    """

    iou_threshold: Fraction = 0.3
    """The scores of boxes with at least this IoU are decayed; "gaussian" decays all and does not read this."""
    sigma: PositiveFloat = 0.5
    """Of "gaussian": the larger, the less scores decay."""
    min_score: Fraction = 1e-3
    """Boxes whose score falls below this are dropped."""
    method: Literal["naive", "linear", "gaussian"] = "linear"
    """Scores are multiplied by 0 ("naive"), 1 - IoU ("linear") or exp(-IoU^2 / sigma) ("gaussian")."""

    def survivors(self, boxes: Tensor, scores: Tensor, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
        del groups  # boxes of different groups lie too far apart to overlap
        left, score = boxes.detach().cpu(), scores.detach().cpu()
        index = torch.arange(len(left))
        kept: list[Tensor] = []
        kept_scores: list[Tensor] = []
        # One after another, as each box that is kept changes which is the best of the others. With the
        # values on the CPU, no step waits for a device.
        while len(left):
            best = score.argmax()
            kept.append(index[best])
            kept_scores.append(score[best])
            score = score * self.decay(bbox_overlaps(left[best][None], left).squeeze(0))
            remaining = score >= self.min_score
            remaining[best] = False
            left, score, index = left[remaining], score[remaining], index[remaining]
        return torch.stack(kept).to(boxes.device), torch.stack(kept_scores).to(boxes.device)

    def decay(self, ious: Tensor) -> Tensor:
        """The factors (n,) for the scores of boxes that have the IoUs (n,) with a box that is kept."""
        if self.method == "gaussian":
            return torch.exp(-ious.square() / self.sigma)
        overlaps = ious >= self.iou_threshold
        return torch.where(overlaps, 0.0 if self.method == "naive" else 1 - ious, 1.0)
