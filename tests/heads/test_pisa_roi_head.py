"""Prime sample attention in the RoI head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import evolve

from detcfg.boxes.assigners.base import NEGATIVE, Assignment
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.roi.pisa_roi_head import PISARoIHead, PISARoIHeadConfig
from detcfg.structures import Detections, Targets

CONFIG = PISARoIHeadConfig(
    num_classes=3,
    in_channels=4,
    in_strides=(4, 8, 16, 32, 64),
    bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=8),
)
FEATURES = tuple(torch.zeros(1, 4, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))
TARGETS = Targets(boxes=torch.tensor([[0.0, 0, 40, 40]]), labels=torch.tensor([1]))


class _AllNegative(PISARoIHead):
    """Takes every proposal for background."""

    def assign(self, proposals: Sequence[Detections], targets: Sequence[Targets]) -> list[Assignment]:
        del targets
        return [
            Assignment(gt_indices=torch.full((len(image),), NEGATIVE), max_overlaps=torch.zeros(len(image)))
            for image in proposals
        ]


def test_a_subclass_assigns_as_it_likes() -> None:
    boxes = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 36], [30, 30, 60, 60]])
    proposals = Detections(boxes=boxes, scores=torch.ones(3), labels=torch.zeros(3, dtype=torch.long))
    sampler = evolve(CONFIG.sampler, add_gt_as_proposals=False)  # type: ignore[call-arg]
    config = evolve(CONFIG, sampler=sampler).resolved()

    (usual,) = PISARoIHead(config).sample(FEATURES, [proposals], [TARGETS])
    (changed,) = _AllNegative(config).sample(FEATURES, [proposals], [TARGETS])

    assert (2, 1) == (usual.num_pos, usual.num_neg)
    assert (0, 3) == (changed.num_pos, changed.num_neg)
