"""The RoI head of Dynamic R-CNN follows its proposals."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.roi.dynamic_roi_head import DynamicRoIHead, DynamicRoIHeadConfig, DynamicTrainConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import Detections, ImageBatch, Targets

CONFIG = DynamicRoIHeadConfig(
    num_classes=3,
    in_channels=4,
    in_strides=(4, 8, 16, 32, 64),
    bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=8, loss_bbox=SmoothL1LossConfig(beta=1.0)),
    dynamic_rcnn=DynamicTrainConfig(iou_topk=2, beta_topk=1, update_iter_interval=2),
)
BATCH = ImageBatch(
    tensor=torch.zeros(1, 3, 64, 64), sizes=((64, 64),), padded_sizes=((64, 64),), output_sizes=((64, 64),)
)
TARGETS = Targets(boxes=torch.tensor([[0.0, 0, 40, 40]]), labels=torch.tensor([1]))
FEATURES = tuple(torch.zeros(1, 4, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))


def step(head: DynamicRoIHead, widths: list[float]) -> dict[str, Tensor]:
    """Proposals that share their left edge with the object, of these widths: their IoU is width / 40."""
    boxes = torch.tensor([[0.0, 0, width, 40] for width in widths])
    zeros = torch.zeros(len(widths))
    proposals = Detections(boxes=boxes, scores=zeros, labels=zeros.long())
    return head.loss(FEATURES, [proposals], BATCH, [TARGETS])


def test_the_threshold_becomes_the_mean_iou_of_the_proposals_of_a_rank() -> None:
    head = CONFIG.build().train()
    step(head, [36, 32, 4])
    assert head.assigner.pos_iou_thr == 0.5
    step(head, [20, 28, 24])
    expected = pytest.approx((0.8 + 0.6) / 2)
    assert expected == head.assigner.pos_iou_thr
    assert expected == head.assigner.neg_iou_thr
    assert expected == head.assigner.min_pos_iou


def test_the_threshold_does_not_fall_below_the_initial_one() -> None:
    head = CONFIG.build().train()
    for _ in range(2):
        step(head, [8, 4])
    assert head.assigner.pos_iou_thr == 0.4


def test_beta_becomes_the_median_of_the_smallest_errors() -> None:
    config = evolve(CONFIG, sampler=evolve(CONFIG.sampler, add_gt_as_proposals=False))  # type: ignore[call-arg]
    head = config.build().train()
    step(head, [38, 24])
    step(head, [36])
    # The mean of dx, a difference of centres over a width over 0.1, and of dy, which is 0.
    expected = ((40 - 38) / 2 / 38 / 0.1 / 2 + (40 - 36) / 2 / 36 / 0.1 / 2) / 2
    assert head.loss_bbox.beta == pytest.approx(expected)
    pred, target = torch.zeros(1, 4), torch.full((1, 4), 0.1)
    assert head.bbox_head.loss_bbox(pred, target).item() == pytest.approx(0.5 * 0.01 / expected)


def test_objects_that_are_proposals_themselves_have_no_error_and_beta_stays() -> None:
    head = CONFIG.build().train()
    for _ in range(2):
        step(head, [32])
    assert head.loss_bbox.beta == 1.0
    assert not head.beta_history


def test_no_proposals_and_the_validation_loss_change_nothing() -> None:
    head = CONFIG.build()
    step(head.train(), [])
    assert [0.0] == [float(iou) for iou in head.iou_history]
    for _ in range(3):
        step(head.eval(), [40, 40])
    assert len(head.iou_history) == 1
    assert head.assigner.pos_iou_thr == 0.5


def test_a_loss_without_beta_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"bbox_head\.loss_bbox is L1LossConfig"):
        evolve(CONFIG, bbox_head=Shared2FCBBoxHeadConfig(loss_bbox=L1LossConfig())).build()
