"""Masks drawn as torchvision's Mask R-CNN draws them."""

from __future__ import annotations

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.boxes.geometry import boxes_around, centres
from detcfg.heads.mask.fcn_mask_head import FCNMaskHead, FCNMaskHeadConfig
from detcfg.masks import paste


@frozen(kw_only=True)
class WholePixelMaskHeadConfig(FCNMaskHeadConfig):
    """A mask head whose masks fill boxes of whole pixels (torchvision/models/detection/roi_heads.py)."""

    def build(self) -> WholePixelMaskHead:
        return WholePixelMaskHead(self.resolved())


class WholePixelMaskHead(FCNMaskHead):
    """The same layers."""

    def predict(
        self, features: Tensor, boxes: Tensor, labels: Tensor, size: tuple[int, int], threshold: float
    ) -> Tensor:
        # A ring of zeros, so that a mask fades out beyond its box.
        masks = F.pad(self.probabilities(features, labels), (1, 1, 1, 1))
        side = masks.shape[-1]
        centre, half = centres(boxes), (boxes[:, 2:] - boxes[:, :2]) / 2
        half = half * (side / (side - 2))
        corners = boxes_around(centre, half).long()
        corners[:, 2:] += 1  # the last pixel belongs to the box
        return paste(masks, corners.to(boxes), size, threshold)
