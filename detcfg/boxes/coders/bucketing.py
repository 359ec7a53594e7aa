"""Boxes as the bucket in which each side lies, and the offset within it.

Shapes: N priors; S buckets of a side, in the order left, right, top, bottom, each from the outside inwards.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from attrs import frozen
from torch import Tensor

from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.config.ranges import PositiveFloat, PositiveInt


@frozen(kw_only=True)
class BucketingBBoxCoderConfig(BBoxCoderConfig):
    """Side-aware boundary localisation (Wang et al., 2019, https://arxiv.org/abs/1912.04260).

    An enlarged prior is divided into buckets along each axis. Of the 8 * S numbers of a box, the first half are
    the logits that a side lies in a bucket, the second half the offsets of the side from the buckets' centres, in
    units of buckets. Follows mmdet/models/task_modules/coders/bucketing_bbox_coder.py.
    """

    num_buckets: Annotated[int, Ge(2)] = 14
    """Buckets along each axis; each side has half of them, S."""
    scale_factor: PositiveFloat = 1.7
    """Priors are enlarged by this factor about their centres."""
    offset_topk: PositiveInt = 2
    """Offsets are regressed from this many of the nearest buckets, S at most."""
    offset_upperbound: PositiveFloat = 1.0
    """Except from the nearest bucket, only offsets below this are regressed, in units of buckets."""
    cls_ignore_neighbor: bool = True
    """Whether buckets less than one width from the side, other than the nearest, are left out of the bucket loss."""
    clip_border: bool = True
    """Whether decoded boxes are clipped to the image."""

    @property
    def side_num(self) -> int:
        """S."""
        return -(-self.num_buckets // 2)

    @property
    def encode_size(self) -> int:
        return 8 * self.side_num

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """(N, 8 * S): one-hot, the nearest bucket of each side; then the offset from every bucket."""
        offsets = self._offsets(priors, boxes)
        return torch.cat([self._nearest(offsets).flatten(1), offsets.flatten(1)], dim=1)

    def weights(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """(N, 8 * S), 0 or 1: the loss weights of the targets that `encode` gives."""
        offsets = self._offsets(priors, boxes)
        distances, order = offsets.abs().sort(dim=-1)
        near = distances < self.offset_upperbound
        near[..., 0] = True
        near[..., self.offset_topk :] = False
        offset_weights = torch.zeros_like(offsets).scatter(-1, order, near.to(offsets.dtype))
        cls_weights = torch.ones_like(offsets)
        if self.cls_ignore_neighbor:
            cls_weights[(offsets.abs() < 1) & (self._nearest(offsets) == 0)] = 0
        return torch.cat([cls_weights.flatten(1), offset_weights.flatten(1)], dim=1)

    def decode(self, priors: Tensor, pred: Tensor, max_shape: tuple[int, int] | None = None) -> Tensor:
        """The boxes (N, 4) of predictions (N, 8 * S): each side at its most likely bucket, plus the offset."""
        logits, offsets = self._split(pred)
        best = logits.argmax(dim=-1, keepdim=True)
        centres, widths = self._buckets(priors)
        sides = centres.gather(-1, best) - offsets.gather(-1, best) * widths
        x1, x2, y1, y2 = sides.squeeze(-1).unbind(dim=-1)
        if self.clip_border and max_shape is not None:  # to the last pixel's corner, as in MMDetection
            x1, x2 = x1.clamp(0, max_shape[1] - 1), x2.clamp(0, max_shape[1] - 1)
            y1, y2 = y1.clamp(0, max_shape[0] - 1), y2.clamp(0, max_shape[0] - 1)
        return torch.stack([x1, y1, x2, y2], dim=-1)

    def confidence(self, pred: Tensor) -> Tensor:
        """(N,): the confidence of predictions (N, 8 * S) in their buckets, which scales the score.

        The mean over the sides of the probability of the most likely bucket, plus that of the second most likely
        where the two are adjacent.
        """
        logits, _ = self._split(pred)
        probabilities, buckets = logits.softmax(dim=-1).topk(2, dim=-1)
        adjacent = (buckets[..., 0] - buckets[..., 1]).abs() == 1
        return (probabilities[..., 0] + probabilities[..., 1] * adjacent).mean(dim=-1)

    def _split(self, pred: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and offsets (N, 4, S)."""
        parts = pred.view(len(pred), 2, 4, self.side_num)
        return parts[:, 0], parts[:, 1]

    def _buckets(self, priors: Tensor) -> tuple[Tensor, Tensor]:
        """The centres of the buckets (N, 4, S) of each side, and their widths (N, 4, 1)."""
        low, high = priors[:, :2], priors[:, 2:]
        middle, half = (low + high) * 0.5, (high - low) * (0.5 * self.scale_factor)
        low, high = middle - half, middle + half
        widths = ((high - low) / self.num_buckets).repeat_interleave(2, dim=1)[..., None]
        steps = 0.5 + torch.arange(self.side_num, device=priors.device, dtype=priors.dtype)
        signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=priors.dtype).to(priors.device)[:, None]
        outer = torch.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], dim=1)[..., None]
        return outer + signs * steps * widths, widths

    def _offsets(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """(N, 4, S): from the boxes' sides to the centres of the buckets, in units of buckets."""
        centres, widths = self._buckets(priors.float())
        sides = boxes.float()[:, [0, 2, 1, 3], None]
        return (centres - sides) / widths

    def _nearest(self, offsets: Tensor) -> Tensor:
        """(N, 4, S): 1 for the bucket nearest to the side."""
        return F.one_hot(offsets.abs().argmin(dim=-1), self.side_num).to(offsets.dtype)
