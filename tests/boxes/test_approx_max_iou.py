"""Assignment by the best of several boxes that stand for a prior."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from detcfg.boxes.assigners.approx_max_iou import ApproxMaxIoUAssignerConfig
from detcfg.boxes.assigners.base import IGNORED, NEGATIVE
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.structures import Targets
from tests.support.dense import objects

ASSIGNER = ApproxMaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4, match_low_quality=False)


def test_a_prior_learns_the_object_that_one_of_its_shapes_fits() -> None:
    squares = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    wide = torch.tensor([[-5.0, 2.5, 15.0, 7.5], [45.0, 52.5, 65.0, 57.5]])
    found = ASSIGNER.assign_approxes(
        squares, torch.stack([squares, wide], dim=1), objects((-5.0, 2.5, 15.0, 7.5))
    )

    assert torch.equal(found.gt_indices, torch.tensor([0, NEGATIVE]))
    assert torch.equal(found.max_overlaps, torch.tensor([1.0, 0.0]))
    alone = ASSIGNER.assign(squares, objects((-5.0, 2.5, 15.0, 7.5)))
    assert torch.equal(alone.gt_indices, torch.tensor([NEGATIVE, NEGATIVE]))


def test_ignored_boxes_are_held_against_the_squares() -> None:
    squares = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 20.0, 10.0, 30.0]])
    approxes = squares[:, None].repeat(1, 2, 1)
    approxes[:, 1] += 100
    assigner = ApproxMaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4, ignore_iof_thr=0.5)
    targets = objects((0.0, 0.0, 10.0, 10.0), (100.0, 120.0, 110.0, 130.0))
    ignored = targets.ignored
    assert ignored is not None
    ignored[1] = True
    found = assigner.assign_approxes(squares, approxes, targets)
    assert torch.equal(found.gt_indices, torch.tensor([0, NEGATIVE]))
    targets.boxes[1] -= 100
    found = assigner.assign_approxes(squares, approxes, targets)
    assert torch.equal(found.gt_indices, torch.tensor([0, IGNORED]))


@given(st.integers(0, 2**20))
def test_one_shape_is_what_the_plain_assigner_does(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(20, 4, generator=generator).mul(100).round()
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] + 1], dim=1)
    targets = Targets(boxes=boxes[15:], labels=torch.zeros(5, dtype=torch.long))
    plain = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4).assign(boxes[:15], targets)
    approx = ApproxMaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4)
    found = approx.assign_approxes(boxes[:15], boxes[:15, None].expand(-1, 3, -1), targets)

    assert torch.equal(found.gt_indices, plain.gt_indices)
    assert torch.equal(found.max_overlaps, plain.max_overlaps)
