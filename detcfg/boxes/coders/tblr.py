"""Boxes as distances from a prior's centre to their four sides."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.coders.base import BBoxCoderConfig, constant
from detcfg.boxes.geometry import centres, clip_boxes
from detcfg.config.ranges import PositiveFloat


@frozen(kw_only=True)
class TBLRBBoxCoderConfig(BBoxCoderConfig):
    """Distances (top, bottom, left, right) from the prior's centre, in units of the prior's size (FSAF).

    Zhu et al., 2019, https://arxiv.org/abs/1903.00621. Follows
    mmdet/models/task_modules/coders/tblr_bbox_coder.py.
    """

    normalizer: PositiveFloat | tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = 4.0
    """The distances are divided by this when boxes are encoded; one number, or one for each side."""
    clip_border: bool = True
    """Whether decoded boxes are clipped to the image."""

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """The distances (N, 4) of the sides of boxes (N, 4) from the centres of priors (N, 4)."""
        x, y, width, height = _centre_and_size(priors)
        x1, y1, x2, y2 = boxes.unbind(-1)
        distances = torch.stack(
            [(y - y1) / height, (y2 - y) / height, (x - x1) / width, (x2 - x) / width], dim=-1
        )
        return distances / self._normalizer(distances)

    def decode(self, priors: Tensor, pred: Tensor, max_shape: tuple[int, int] | None = None) -> Tensor:
        """The boxes (N, 4) whose sides have the distances `pred` (N, 4) from the centres of priors (N, 4)."""
        x, y, width, height = _centre_and_size(priors)
        top, bottom, left, right = (pred * self._normalizer(pred)).unbind(-1)
        boxes = torch.stack(
            [x - left * width, y - top * height, x + right * width, y + bottom * height], dim=-1
        )
        return boxes if max_shape is None or not self.clip_border else clip_boxes(boxes, max_shape)

    def _normalizer(self, like: Tensor) -> Tensor | float:
        return constant(self.normalizer, like) if isinstance(self.normalizer, tuple) else self.normalizer


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    centre, size = centres(boxes), boxes[..., 2:] - boxes[..., :2]
    return centre[..., 0], centre[..., 1], size[..., 0], size[..., 1]
