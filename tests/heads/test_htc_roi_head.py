"""Hybrid Task Cascade: masks that follow one another, and the semantic branch."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg import load_experiment
from detcfg.config import ConfigError
from detcfg.detectors.cascade_rcnn import CascadeRCNNConfig
from detcfg.errors import DetcfgError
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.mask.fused_semantic_head import FusedSemanticHeadConfig
from detcfg.heads.mask.htc_mask_head import HTCMaskHeadConfig
from detcfg.heads.roi.htc_roi_head import HybridTaskCascadeRoIHead, HybridTaskCascadeRoIHeadConfig
from detcfg.structures import Targets
from tests.support import zoo
from tests.support.roi import BATCH, CASCADE

MASK_HEAD = HTCMaskHeadConfig(num_convs=1, conv_out_channels=16)
SEMANTIC = FusedSemanticHeadConfig(num_convs=1, conv_out_channels=16, num_classes=5)
ROI_HEAD = HybridTaskCascadeRoIHeadConfig(
    bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=16, reg_class_agnostic=True), mask_head=MASK_HEAD
)
TINY = evolve(CASCADE, roi_head=ROI_HEAD)


def target(*, semantic: bool) -> Targets:
    masks = torch.zeros(1, 60, 64, dtype=torch.bool)
    masks[0, 8:40, 8:40] = True
    return Targets(
        boxes=torch.tensor([[8.0, 8, 40, 40]]),
        labels=torch.tensor([1]),
        masks=masks,
        semantic=masks[0].to(torch.uint8) if semantic else None,
    )


def losses_of(config: CascadeRCNNConfig, *, semantic: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = config.build().train()
    image = torch.randint(0, 255, (3, 60, 64), dtype=torch.uint8)
    losses = model.loss([image], [target(semantic=semantic)])
    torch.stack(list(losses.values())).sum().backward()
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    return losses


def built(config: HybridTaskCascadeRoIHeadConfig) -> HybridTaskCascadeRoIHead:
    head = evolve(TINY, roi_head=config).resolved().roi_head.build()
    assert isinstance(head, HybridTaskCascadeRoIHead)
    return head


def test_a_stage_draws_from_what_all_stages_before_it_made() -> None:
    head = built(ROI_HEAD)
    pooled = torch.randn(2, 16, 14, 14)
    first, second, third = head.stage(2).mask_heads
    assert second.conv_res is not None
    assert third.conv_res is not None
    made = second.convs[0](pooled + second.conv_res(first.convs[0](pooled)))
    expected = third.draw(third.convs[0](pooled + third.conv_res(made)))
    torch.testing.assert_close(head.stage(2).mask_logits(pooled), expected)


def test_without_the_flow_a_stage_draws_alone() -> None:
    head = built(evolve(ROI_HEAD, mask_info_flow=False, mask_head=evolve(MASK_HEAD, with_conv_res=False)))
    pooled = torch.randn(2, 16, 14, 14)
    (mask_head,) = head.stage(2).mask_heads
    torch.testing.assert_close(head.stage(2).mask_logits(pooled), mask_head(pooled))


@pytest.mark.parametrize("interleaved", [True, False])
def test_masks_learn_in_either_order(interleaved: bool) -> None:  # noqa: FBT001
    losses = losses_of(evolve(TINY, roi_head=evolve(ROI_HEAD, interleaved=interleaved)))
    assert {f"s{stage}.loss_mask" for stage in range(3)} <= set(losses)


@pytest.mark.parametrize("fusion", [("bbox", "mask"), ("bbox",), ("mask",)])
def test_the_semantic_branch_learns_and_its_features_take_part(fusion: tuple[str, ...]) -> None:
    roi_head = evolve(ROI_HEAD, semantic_head=SEMANTIC, semantic_fusion=fusion)
    assert "loss_semantic_seg" in losses_of(evolve(TINY, roi_head=roi_head), semantic=True)
    model = evolve(TINY, roi_head=roi_head).build().eval()
    with torch.inference_mode():
        (found,) = model.predict([torch.randint(0, 255, (3, 60, 64), dtype=torch.uint8)])
    assert found.masks is not None


def test_semantic_features_are_added_to_those_of_the_rois() -> None:
    head = built(evolve(ROI_HEAD, semantic_head=SEMANTIC))
    features = tuple(torch.zeros(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))
    semantic = torch.full((1, 16, 8, 8), 3.0)
    rois = torch.tensor([[0.0, 8, 8, 40, 40]])
    for pooled in (
        head.stage(0).pool((*features, semantic), rois),
        head.stage(0).pool_masks((*features, semantic), rois),
    ):
        torch.testing.assert_close(pooled, torch.full_like(pooled, 3.0))


def test_pixels_beyond_an_image_and_unknown_ones_are_not_learnt() -> None:
    losses: list[Tensor] = []
    for value in (255, 1):
        torch.manual_seed(0)
        head = evolve(SEMANTIC, in_channels=4, num_ins=2).build()
        features = (torch.randn(1, 4, 16, 16), torch.randn(1, 4, 8, 8))
        logits, _ = head(features)
        semantic = torch.full((64, 64), 2, dtype=torch.uint8)
        semantic[:, 32:] = value
        targets = Targets(boxes=torch.zeros(0, 4), labels=torch.zeros(0), semantic=semantic)
        losses.append(head.loss(logits, BATCH, [targets])["loss_semantic_seg"])
    left = torch.nn.functional.cross_entropy(logits[..., :4], torch.full((1, 8, 4), 2)) * 0.2
    # As in MMDetection, the mean is over all pixels, whether known or not.
    torch.testing.assert_close(losses[0], left / 2)
    assert losses[1] > losses[0]


def test_a_semantic_branch_without_semantic_targets_says_what_to_do() -> None:
    with pytest.raises(DetcfgError, match="semantic"):
        losses_of(evolve(TINY, roi_head=evolve(ROI_HEAD, semantic_head=SEMANTIC)))


def test_without_mask_heads_it_has_boxes_alone() -> None:
    roi_head = evolve(ROI_HEAD, mask_head=None)
    assert not any("mask" in name for name in losses_of(evolve(TINY, roi_head=roi_head)))


@pytest.mark.parametrize(
    ("roi_head", "message"),
    [
        (evolve(ROI_HEAD, mask_head=evolve(MASK_HEAD, with_conv_res=False)), r"mask_head\.1\.with_conv_res"),
        (evolve(ROI_HEAD, semantic_head=evolve(SEMANTIC, fusion_level=5)), "fusion_level is 5"),
        (evolve(ROI_HEAD, semantic_head=evolve(SEMANTIC, in_channels=7)), r"semantic_head\.in_channels is 7"),
    ],
)
def test_parts_that_do_not_fit_are_named(roi_head: HybridTaskCascadeRoIHeadConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evolve(TINY, roi_head=roi_head).build()


def test_with_its_semantic_branch_it_has_mmdetections_parameters() -> None:
    model = load_experiment("htc").model
    roi_head = evolve(model.roi_head, semantic_head=FusedSemanticHeadConfig())  # type: ignore[attr-defined]
    zoo.check_state_dict("htc/htc_r50_fpn_1x_coco.py", evolve(model, roi_head=roi_head))  # type: ignore[call-arg]
