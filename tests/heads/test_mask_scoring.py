"""Mask Scoring R-CNN: how good a mask is, and what is done with it."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from detcfg import masks as module
from detcfg.config import ConfigError
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.heads.mask.mask_iou_head import MaskIoUHeadConfig
from detcfg.heads.roi.mask_scoring_roi_head import MaskScoringRoIHead, MaskScoringRoIHeadConfig
from detcfg.masks import shares_within
from detcfg.structures import Detections, Targets
from tests.support.roi import MASK_RCNN, sampled

ROI_HEAD = MaskScoringRoIHeadConfig(
    bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=16),
    mask_head=FCNMaskHeadConfig(num_convs=1, conv_out_channels=8),
    mask_iou_head=MaskIoUHeadConfig(num_convs=2, num_fcs=1, conv_out_channels=8, fc_out_channels=16),
)
TINY = evolve(MASK_RCNN, roi_head=ROI_HEAD)
IOU_HEAD = MaskIoUHeadConfig(in_channels=4, roi_feat_size=4, num_classes=2, num_convs=1, num_fcs=1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**20), piece=st.sampled_from([1, 2**24]))
def test_the_share_of_an_object_is_that_of_the_pixels_in_the_box(seed: int, piece: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(3, 12, 9, generator=generator) > 0.6
    boxes = torch.rand(7, 4, generator=generator) * 8
    boxes[:, 2:] += boxes[:, :2] + 1
    indices = torch.randint(0, 3, (7,), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        shares = shares_within(masks, boxes, indices)
    for share, (x1, y1, x2, y2), index in zip(shares, boxes.long().tolist(), indices.tolist(), strict=True):
        inside = masks[index, y1:y2, x1:x2].sum() / masks[index].sum()
        torch.testing.assert_close(share, inside)


def test_a_box_is_at_least_a_pixel_and_an_empty_mask_has_no_share() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, 3, 3:5] = True
    boxes = torch.tensor([[3.2, 3.2, 3.8, 3.8], [0, 0, 8, 8], [8, 8, 9, 9]])
    assert shares_within(masks, boxes, torch.tensor([0, 1, 0])).tolist() == [0.5, 0, 0]


def test_the_iou_to_learn_is_with_the_whole_object_not_with_its_part_in_the_box() -> None:
    masks = torch.zeros(1, 16, 16, dtype=torch.bool)
    masks[0, :, :8] = True
    sampling = sampled(masks, torch.tensor([[0.0, 0, 16, 8]]), torch.tensor([1]))
    logits = torch.full((1, 8, 8), -1.0)
    logits[0, :, 2:] = 1.0
    drawn = torch.zeros(1, 8, 8)
    drawn[0, :, :4] = 1
    (iou,) = IOU_HEAD.build().targets(logits, drawn, [sampling])
    # Of 8 x 8 cells, 48 are predicted, 32 are the object's within the box, 16 both; half the object is outside.
    torch.testing.assert_close(iou, torch.tensor(16 / (48 + 64 - 16)))


def test_only_masks_that_overlap_their_objects_are_learnt() -> None:
    torch.manual_seed(0)
    head = IOU_HEAD.build()
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[:, :, :8] = True
    sampling = sampled(masks, torch.tensor([[0.0, 0, 16, 16]]).repeat(2, 1), torch.tensor([1, 0]))
    drawn = torch.zeros(2, 8, 8)
    drawn[:, :, :4] = 1
    logits = torch.stack([torch.full((8, 8), 1.0), torch.full((8, 8), -1.0)])
    features = torch.randn(2, 4, 4, 4)
    losses = head.loss(features, logits, drawn, [sampling])
    expected = 0.5 * (head(features, logits)[0, 1] - 0.5) ** 2
    torch.testing.assert_close(losses["loss_mask_iou"], expected)
    nothing = head.loss(
        features[1:], logits[1:], drawn[1:], [sampled(masks[1:], sampling.pos_priors[1:], torch.tensor([0]))]
    )
    assert nothing["loss_mask_iou"].item() == 0


def test_detections_are_scored_by_their_masks_too_and_stay_in_order() -> None:
    torch.manual_seed(0)
    head = TINY.resolved().roi_head.build()
    assert isinstance(head, MaskScoringRoIHead)
    found = Detections(
        boxes=torch.tensor([[0.0, 0, 20, 20], [5, 5, 30, 30], [2, 2, 9, 9]]),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.tensor([0, 1, 2]),
    )
    with torch.inference_mode():
        pooled = torch.randn(3, 16, 14, 14)
        logits = head.fcn_mask_head.logits_of_labels(pooled, found.labels)
        ious = head.mask_iou_head(pooled, logits)[torch.arange(3), found.labels]
        scored = head.with_masks(found, pooled, (32, 32))
    torch.testing.assert_close(scored.scores, (found.scores * ious).sort(descending=True).values)
    assert scored.boxes[0].equal(found.boxes[int((found.scores * ious).argmax())])


def test_it_learns_and_an_image_without_objects_gives_a_gradient_for_every_weight() -> None:
    torch.manual_seed(0)
    nothing = Targets(
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.long),
        masks=torch.zeros(0, 64, 64, dtype=torch.bool),
    )
    model = TINY.build().train()
    losses = model.loss([torch.zeros(3, 64, 64, dtype=torch.uint8)], [nothing])
    torch.stack(list(losses.values())).sum().backward()
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_masks_that_are_not_twice_the_features_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"mask_head\.mask_size is 14, but mask_iou_head .* 28"):
        evolve(TINY, roi_head=evolve(ROI_HEAD, mask_head=FCNMaskHeadConfig(upsample_cfg=None))).build()
