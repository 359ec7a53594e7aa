"""Cascades of bbox heads and mask heads."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.detectors.cascade_rcnn import CascadeRCNNConfig
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.heads.roi.cascade_roi_head import CascadeRoIHead, CascadeRoIHeadConfig
from detcfg.structures import Detections, Targets
from tests.support.roi import BATCH
from tests.support.roi import CASCADE as TINY
from tests.support.roi import CASCADE_BBOX_HEAD as BBOX_HEAD
from tests.support.roi import CASCADE_ROI_HEAD as ROI_HEAD


def of(stages: int, roi_head: CascadeRoIHeadConfig = ROI_HEAD) -> CascadeRCNNConfig:
    weights = tuple(0.5**stage for stage in range(stages))
    iou = roi_head.assigner[0] if isinstance(roi_head.assigner, tuple) else roi_head.assigner
    changed = evolve(roi_head, num_stages=stages, stage_loss_weights=weights, assigner=iou)
    return evolve(TINY, roi_head=changed)


def built(config: CascadeRCNNConfig) -> CascadeRoIHead:
    head = config.resolved().roi_head.build()
    assert isinstance(head, CascadeRoIHead)
    return head


def one_object(masks: Tensor | None = None) -> list[Targets]:
    return [
        Targets(boxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([1]), masks=masks),
    ]


def images() -> list[Tensor]:
    return [torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)]


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_every_stage_has_its_losses(stages: int) -> None:
    torch.manual_seed(0)
    losses = of(stages).build().train().loss(images(), one_object())
    expected = {f"s{stage}.loss_{kind}" for stage in range(stages) for kind in ("cls", "bbox")}
    assert expected | {"loss_rpn_cls", "loss_rpn_bbox"} == set(losses)


def test_a_stages_weight_multiplies_its_losses_and_no_others() -> None:
    losses: list[dict[str, Tensor]] = []
    for weights in ((1.0, 1.0, 1.0), (1.0, 0.25, 1.0)):
        torch.manual_seed(0)
        model = evolve(TINY, roi_head=evolve(ROI_HEAD, stage_loss_weights=weights)).build().train()
        losses.append(model.loss(images(), one_object()))
    plain, weighted = losses
    for name, value in plain.items():
        factor = 0.25 if name.startswith("s1.") else 1.0
        torch.testing.assert_close(weighted[name], value * factor)


def test_a_cascade_whose_heads_change_nothing_leaves_the_proposals() -> None:
    head = built(TINY)
    for stage in range(3):
        torch.nn.init.zeros_(head.stage(stage).bbox_head.fc_reg.weight)
    torch.nn.init.constant_(head.stage(2).bbox_head.fc_cls.bias[0], 9.0)
    features = tuple(torch.randn(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))
    proposal = Detections(
        boxes=torch.tensor([[3.0, 5, 30, 50]]), scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.long)
    )
    (found,) = head.eval().predict(features, [proposal], BATCH)
    best = found[found.labels == 0]
    torch.testing.assert_close(best.boxes, proposal.boxes)


def test_scores_are_the_softmax_of_the_mean_of_the_stages_logits() -> None:
    torch.manual_seed(0)
    head = built(TINY).eval()
    for stage, logits in enumerate(([3.0, 0, 0, 0], [0.0, 3, 0, 0], [0.0, 0, 3, 0])):
        torch.nn.init.zeros_(head.stage(stage).bbox_head.fc_cls.weight)
        head.stage(stage).bbox_head.fc_cls.bias.data = torch.tensor(logits)
    features = tuple(torch.randn(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))
    proposal = Detections(
        boxes=torch.tensor([[3.0, 5, 30, 50]]), scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.long)
    )
    (found,) = head.predict(features, [proposal], BATCH)
    expected = torch.tensor([1.0, 1, 1, 0]).softmax(0)[0]
    torch.testing.assert_close(found.scores, expected.expand(3))


def test_an_image_without_objects_gives_finite_losses_and_a_gradient_for_every_weight() -> None:
    torch.manual_seed(0)
    model = of(3, evolve(ROI_HEAD, mask_head=FCNMaskHeadConfig(num_convs=1, conv_out_channels=8))).build()
    nothing = Targets(
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.long),
        masks=torch.zeros(0, 64, 64, dtype=torch.bool),
    )
    losses = model.train().loss(images(), [nothing])
    torch.stack(list(losses.values())).sum().backward()
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_masks_may_share_the_boxes_extractor_and_come_with_the_detections() -> None:
    torch.manual_seed(0)
    model = of(2, evolve(ROI_HEAD, mask_head=FCNMaskHeadConfig(num_convs=1, conv_out_channels=8))).build()
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, 8:40, 8:40] = True
    assert "s1.loss_mask" in model.train().loss(images(), one_object(masks))
    with torch.inference_mode():
        (found,) = model.eval().predict(images(), output_sizes=[(96, 128)])
    assert len(found) > 0
    assert found.masks is not None
    assert found.masks.shape == (len(found), 96, 128)


def test_a_part_that_is_replaced_in_its_list_is_the_stages() -> None:
    head = built(TINY)
    other = evolve(BBOX_HEAD, in_channels=16, roi_feat_size=7, num_classes=3).build()
    head.bbox_head[1] = other
    assert head.stage(1).bbox_head is other
    assert [False, True, False] == [stage.bbox_head is other for stage in head.stages]


def test_no_proposals_give_no_detections() -> None:
    head = built(TINY).eval()
    features = tuple(torch.randn(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))
    nothing = Detections(
        boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)
    )
    assert [0] == [len(found) for found in head.predict(features, [nothing], BATCH)]


@pytest.mark.parametrize(
    ("roi_head", "message"),
    [
        (evolve(ROI_HEAD, num_stages=2), r"roi_head: assigner has 3 values, but num_stages is 2"),
        (evolve(ROI_HEAD, bbox_head=(BBOX_HEAD,) * 4), r"roi_head: bbox_head has 4 values"),
        (
            evolve(ROI_HEAD, bbox_head=(BBOX_HEAD, evolve(BBOX_HEAD, roi_feat_size=14), BBOX_HEAD)),
            r"bbox_head\.1\.roi_feat_size is 14, but .*bbox_roi_extractor\.1\.roi_layer\.output_size",
        ),
    ],
)
def test_stages_that_do_not_fit_are_named_before_a_weight_exists(
    roi_head: CascadeRoIHeadConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evolve(TINY, roi_head=roi_head).build()
