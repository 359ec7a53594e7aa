"""Boxes as the bucket in which each side lies, and where in it.

Shapes: N priors; S buckets of a side, in the order left, right, top, bottom, each from the outside inwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from attrs import field, frozen, validators
from torch import Tensor

from detcfg.boxes.coders.base import BBoxCoderConfig


@frozen(kw_only=True)
class BucketingBBoxCoderConfig(BBoxCoderConfig):
    """Side-aware boundary localisation (Wang et al., 2019, https://arxiv.org/abs/1912.04260).

    An enlarged prior is divided into buckets along each axis. A code (N, 8 * S) says, first of each bucket
    how likely the side lies there, and then how far it is from the bucket's centre, in units of buckets.
    Follows mmdet/models/task_modules/coders/bucketing_bbox_coder.py.
    """

    num_buckets: int = field(default=14, validator=validators.ge(2))
    """Buckets along each axis; a side has its own half of them."""
    scale_factor: float = field(default=1.7, validator=validators.gt(0))
    """Priors are enlarged by it."""
    offset_topk: int = field(default=2, validator=validators.ge(1))
    """From how many of the nearest buckets the offset is learnt."""
    offset_upperbound: float = 1.0
    """But from the second nearest on only if it is below this, in buckets."""
    cls_ignore_neighbor: bool = True
    """Whether buckets next to the right one, within the width of one, are neither right nor wrong."""
    clip_border: bool = True
    """Whether decoded boxes are kept within the image."""

    @property
    def side_num(self) -> int:
        """S."""
        return -(-self.num_buckets // 2)

    @property
    def encode_size(self) -> int:
        return 8 * self.side_num

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """(N, 8 * S): 1 for the nearest bucket of each side, and the offset from every bucket."""
        offsets = self._offsets(priors, boxes)
        return torch.cat([self._nearest(offsets).flatten(1), offsets.flatten(1)], dim=1)

    def weights(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """(N, 8 * S), 0 or 1: which of the numbers of `encode` are learnt."""
        offsets = self._offsets(priors, boxes)
        distances, order = offsets.abs().sort(dim=-1)
        learnt = distances < self.offset_upperbound
        learnt[..., 0] = True
        learnt[..., self.offset_topk :] = False
        offset_weights = torch.zeros_like(offsets).scatter(-1, order, learnt.to(offsets.dtype))
        cls_weights = torch.ones_like(offsets)
        if self.cls_ignore_neighbor:
            cls_weights[(offsets.abs() < 1) & (self._nearest(offsets) == 0)] = 0
        return torch.cat([cls_weights.flatten(1), offset_weights.flatten(1)], dim=1)

    def decode(self, priors: Tensor, pred: Tensor, max_shape: tuple[int, int] | None = None) -> Tensor:
        """The boxes (N, 4) to which predictions (N, 8 * S) lead."""
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
        """(N,): how sure predictions (N, 8 * S) are where the sides lie.

        The mean over the sides of the probability of the predicted_labels bucket, and of the second predicted_labels if
        it is next to it.
        """
        logits, _ = self._split(pred)
        chances, buckets = logits.softmax(dim=-1).topk(2, dim=-1)
        adjacent = (buckets[..., 0] - buckets[..., 1]).abs() == 1
        return (chances[..., 0] + chances[..., 1] * adjacent).mean(dim=-1)

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
        """(N, 4, S): from the boxes' sides to the buckets, in buckets."""
        centres, widths = self._buckets(priors.float())
        sides = boxes.float()[:, [0, 2, 1, 3], None]
        return (centres - sides) / widths

    def _nearest(self, offsets: Tensor) -> Tensor:
        """(N, 4, S): 1 for the bucket nearest to the side."""
        return F.one_hot(offsets.abs().argmin(dim=-1), self.side_num).to(offsets.dtype)
