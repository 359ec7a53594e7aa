"""Double-Head R-CNN: the tutorial's config by hand, and what its RoI head promises."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve

from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.nms import NMSConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import ConfigError
from detcfg.detectors.faster_rcnn import FasterRCNNConfig
from detcfg.heads.bbox.double_conv_fc_bbox_head import DoubleConvFCBBoxHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig, RPNTestConfig
from detcfg.heads.roi.common import RoITestConfig
from detcfg.heads.roi.double_head_roi_head import DoubleHeadRoIHeadConfig
from detcfg.layers.norm import BNConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.roi_extractors.base import RoIAlignConfig
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.structures import Detections, ImageBatch, Targets
from tests.support import golden

BY_HAND = FasterRCNNConfig(
    num_classes=80,
    backbone=ResNetConfig(
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=BNConfig(requires_grad=True),
        norm_eval=True,
        style="pytorch",
    ),
    neck=FPNConfig(in_channels=(256, 512, 1024, 2048), out_channels=256, num_outs=5),
    rpn_head=RPNHeadConfig(
        in_channels=256,
        feat_channels=256,
        anchor_generator=AnchorGeneratorConfig(
            scales=(8.0,), ratios=(0.5, 1.0, 2.0), strides=(4, 8, 16, 32, 64)
        ),
        bbox_coder=DeltaXYWHBBoxCoderConfig(
            target_means=(0.0, 0.0, 0.0, 0.0), target_stds=(1.0, 1.0, 1.0, 1.0)
        ),
        loss_cls=CrossEntropyLossConfig(use_sigmoid=True, loss_weight=1.0),
        loss_bbox=L1LossConfig(loss_weight=1.0),
        assigner=MaxIoUAssignerConfig(
            pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True, ignore_iof_thr=-1.0
        ),
        sampler=RandomSamplerConfig(num=256, pos_fraction=0.5, neg_pos_ub=-1.0, add_gt_as_proposals=False),
        allowed_border=-1,
        pos_weight=-1.0,
        rpn_proposal=RPNTestConfig(
            nms_pre=2000, max_per_img=1000, nms=NMSConfig(iou_threshold=0.7), min_bbox_size=0.0
        ),
        test_cfg=RPNTestConfig(
            nms_pre=1000, max_per_img=1000, nms=NMSConfig(iou_threshold=0.7), min_bbox_size=0.0
        ),
    ),
    roi_head=DoubleHeadRoIHeadConfig(
        reg_roi_scale_factor=1.3,
        bbox_roi_extractor=SingleRoIExtractorConfig(
            roi_layer=RoIAlignConfig(output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=(4, 8, 16, 32),
        ),
        bbox_head=DoubleConvFCBBoxHeadConfig(
            num_convs=4,
            num_fcs=2,
            in_channels=256,
            conv_out_channels=1024,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=80,
            bbox_coder=DeltaXYWHBBoxCoderConfig(
                target_means=(0.0, 0.0, 0.0, 0.0), target_stds=(0.1, 0.1, 0.2, 0.2)
            ),
            reg_class_agnostic=False,
            loss_cls=CrossEntropyLossConfig(use_sigmoid=False, loss_weight=2.0),
            loss_bbox=SmoothL1LossConfig(beta=1.0, loss_weight=2.0),
        ),
        assigner=MaxIoUAssignerConfig(
            pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False, ignore_iof_thr=-1.0
        ),
        sampler=RandomSamplerConfig(num=512, pos_fraction=0.25, neg_pos_ub=-1.0, add_gt_as_proposals=True),
        pos_weight=-1.0,
        test_cfg=RoITestConfig(score_thr=0.05, nms=NMSConfig(iou_threshold=0.5), max_per_img=100),
    ),
)
"""MMDetection's tutorial config, each of its values written out."""

TINY = evolve(
    BY_HAND,
    num_classes=3,
    backbone=ResNetConfig(depth=18, base_channels=8),
    neck=FPNConfig(out_channels=16),
    rpn_head=RPNHeadConfig(feat_channels=16),
    roi_head=DoubleHeadRoIHeadConfig(
        bbox_head=DoubleConvFCBBoxHeadConfig(num_convs=1, conv_out_channels=32, fc_out_channels=16)
    ),
)


def test_the_tutorials_config_written_by_hand_computes_what_mmdetection_computes() -> None:
    model = golden.filled(golden.as_made(BY_HAND))
    golden.check_state_dict("double_head", model)
    golden.check_detections("double_head", model)
    golden.check_losses("double_head", model)


@pytest.mark.parametrize(
    "targets",
    [
        Targets(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)),
        Targets(
            boxes=torch.tensor([[4.0, 4.0, 40.0, 40.0]]),
            labels=torch.tensor([1]),
            ignored=torch.tensor([True]),
        ),
    ],
    ids=["no objects", "only ignored objects"],
)
def test_an_image_without_anything_to_learn_gives_finite_losses_and_gradients(targets: Targets) -> None:
    torch.manual_seed(0)
    model = TINY.build().train()
    losses = model.loss([torch.zeros(3, 64, 64, dtype=torch.uint8)], [targets])
    torch.stack(list(losses.values())).sum().backward()

    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_detections_come_in_the_pixels_that_are_asked_for() -> None:
    torch.manual_seed(0)
    model = TINY.build().eval()
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        (plain,) = model.predict([image])
        (scaled,) = model.predict([image], output_sizes=[(128, 288)])

    if len(plain) and len(plain) == len(scaled):
        factors = torch.tensor([3.0, 2.0, 3.0, 2.0])
        torch.testing.assert_close(scaled.scores, plain.scores)
        torch.testing.assert_close(scaled.boxes, plain.boxes * factors)
    assert len(plain) > 0


def test_no_proposals_give_no_detections() -> None:
    head = TINY.resolved().roi_head.build().eval()
    features = tuple(torch.randn(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))
    batch = ImageBatch(
        tensor=torch.zeros(1, 3, 64, 64),
        sizes=((64, 64),),
        padded_sizes=((64, 64),),
        output_sizes=((64, 64),),
    )
    nothing = Detections(
        boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)
    )

    assert [0] == [len(found) for found in head.predict(features, [nothing], batch)]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            evolve(BY_HAND, neck=FPNConfig(out_channels=128)),
            r"rpn_head\.in_channels is 256, but neck\.feature_channels makes it 128",
        ),
        (
            evolve(BY_HAND, backbone=ResNetConfig(depth=18)),
            r"neck\.in_channels is .* but backbone\.feature_channels",
        ),
        (evolve(BY_HAND, neck=FPNConfig(num_outs=4)), r"strides is \(4, 8, 16, 32, 64\), but .*in_strides"),
        (
            evolve(BY_HAND, num_classes=20),
            r"roi_head\.bbox_head\.num_classes is 80, but roi_head\.num_classes",
        ),
        (evolve(BY_HAND, num_classes=0), r"num_classes must be int of at least 1, not 0"),
        (
            evolve(
                BY_HAND,
                roi_head=DoubleHeadRoIHeadConfig(
                    bbox_head=DoubleConvFCBBoxHeadConfig(norm_cfg=None)  # type: ignore[arg-type]
                ),
            ),
            r"roi_head\.bbox_head\.norm_cfg must be NormConfig, not None",
        ),
        (
            evolve(
                BY_HAND,
                roi_head=evolve(
                    BY_HAND.roi_head,
                    bbox_roi_extractor=SingleRoIExtractorConfig(roi_layer=RoIAlignConfig(output_size=14)),
                ),
            ),
            r"roi_feat_size is 7, but .*output_size makes it 14",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named_before_a_weight_exists(
    model: FasterRCNNConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        model.build()
