"""The RoI head of TridentNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config import derived
from detcfg.config.ranges import IntOrOff, PositiveInt
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.structures import Detections, ImageBatch


@frozen(kw_only=True)
class TridentRoIHeadConfig(StandardRoIHeadConfig):
    """Merges the detections of all branches (Li et al., 2019, https://arxiv.org/abs/1901.01892).

    Follows mmdet/models/roi_heads/trident_roi_head.py.
    """

    num_branch: PositiveInt = derived()
    """Branches of the backbone."""
    test_branch_idx: IntOrOff = derived()
    """The branch that is tested; -1: all of them."""

    def build(self) -> TridentRoIHead:
        return TridentRoIHead(self.resolved())


class TridentRoIHead(StandardRoIHead):
    """Reads each image once a branch: all images of the first branch, then all of the second."""

    def __init__(self, config: TridentRoIHeadConfig) -> None:
        super().__init__(config)
        self.num_branch = config.num_branch
        self.test_branch_idx = config.test_branch_idx

    @property
    def active_branches(self) -> int:
        """Branches of the backbone in use: all in training, `test_branch_idx` in testing."""
        return self.num_branch if self.training or self.test_branch_idx == -1 else 1

    def predict(
        self, features: tuple[Tensor, ...], proposals: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        detections = super().predict(features, proposals, batch)
        images = len(detections) // self.active_branches
        return [self.merged(detections[image::images]) for image in range(images)]

    def merged(self, branches: Sequence[Detections]) -> Detections:
        """The detections of one image after NMS over those of all branches."""
        boxes = torch.cat([branch.boxes for branch in branches])
        scores = torch.cat([branch.scores for branch in branches])
        labels = torch.cat([branch.labels for branch in branches])
        kept, scores = self.test_cfg.nms.keep(boxes, scores, labels)
        if self.test_cfg.max_per_img > 0:
            kept, scores = kept[: self.test_cfg.max_per_img], scores[: self.test_cfg.max_per_img]
        return Detections(boxes=boxes[kept], scores=scores, labels=labels[kept])
