"""Guided anchoring."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from attrs import evolve
from torch.testing import assert_close

from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.nms import NMSConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import ConfigError
from detcfg.detectors.base import DetectorConfig
from detcfg.experiments import ga_faster_rcnn, ga_retinanet, ga_rpn, rpn
from detcfg.heads.anchor_based.ga_retina_head import GARetinaHeadConfig
from detcfg.heads.anchor_based.guided_anchor_head import GuidedAnchorHeadConfig
from detcfg.heads.anchor_based.location_targets import location_targets
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.proposal.ga_rpn_head import GARPNHead, GARPNTestConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from tests.support import zoo
from tests.support.dense import STRIDES, batch, built, features, fill_weights, objects

ALL = RandomSamplerConfig(num=10**7, pos_fraction=0.5, add_gt_as_proposals=False)
RETINA = GARetinaHeadConfig(
    num_classes=3,
    in_channels=32,
    in_strides=STRIDES,
    feat_channels=32,
    stacked_convs=1,
    ga_sampler=ALL,
    loc_filter_thr=0.5,
    test_cfg=DenseTestConfig(nms_pre=50),
)
RPN_STRIDES = (4, 8, 16, 32, 64)
RPN = evolve(
    ga_faster_rcnn.RPN_HEAD,
    in_channels=32,
    in_strides=RPN_STRIDES,
    feat_channels=32,
    sampler=ALL,
    ga_sampler=ALL,
    loc_filter_thr=0.4,
    test_cfg=GARPNTestConfig(nms_pre=300, nms_post=30, max_per_img=64, nms=NMSConfig(iou_threshold=0.3)),
)
TARGETS = [
    objects((20.0, 30.0, 100.0, 90.0), (50.0, 10.0, 150.0, 120.0), (5.0, 5.0, 15.0, 20.0)),
    objects((10.0, 10.0, 60.0, 80.0)),
]

# What MMDetection 3.3.0's own heads give for the weights, features and objects of tests/support/dense.py.
LOSSES: dict[str, tuple[GuidedAnchorHeadConfig, dict[str, float], float]] = {
    "ga_retina": (
        RETINA,
        {"loss_cls": 172.667343, "loss_bbox": 1.216317, "loss_shape": 0.075325, "loss_loc": 1.355178},
        962.03711,
    ),
    "ga_retina within a border": (
        evolve(RETINA, allowed_border=16),
        {"loss_cls": 152.316711, "loss_bbox": 1.477325, "loss_shape": 0.083507, "loss_loc": 1.355178},
        895.77625,
    ),
    "ga_rpn": (
        RPN,
        {
            "loss_rpn_cls": 0.600363,
            "loss_rpn_bbox": 0.004196,
            "loss_anchor_shape": 0.005672,
            "loss_anchor_loc": 1.141294,
        },
        3.74565,
    ),
}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_and_gradients_are_mmdetections(name: str) -> None:
    config, expected, norm = LOSSES[name]
    head = config.build()
    fill_weights(head)

    losses = head.loss(features(strides=config.in_strides), batch(), TARGETS)
    assert {key: float(loss.detach()) for key, loss in losses.items()} == pytest.approx(
        expected, rel=1e-4, abs=1e-6
    )
    torch.stack(list(losses.values())).sum().backward()
    norms = torch.stack([p.grad.norm() for p in head.parameters() if p.grad is not None])
    assert float(norms.norm()) == pytest.approx(norm, rel=1e-4)


@torch.no_grad()
def test_detections_are_mmdetections() -> None:
    head = RETINA.build()
    fill_weights(head)
    found = head.eval().predict(features(), batch())[0]

    assert len(found) == 100
    assert_close(found.boxes[0], torch.tensor([52.2, 63.35, 61.95, 93.25]), atol=0.01, rtol=0)
    assert_close(found.scores[:2], torch.tensor([0.7893, 0.7821]), atol=1e-4, rtol=0)
    assert torch.equal(found.labels[:4], torch.tensor([2, 0, 2, 2]))
    assert float(found.scores.sum()) == pytest.approx(69.8118, rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("across", "count", "scores"), [(False, 55, 30.0637), (True, 42, 23.3402)])
def test_proposals_are_mmdetections(across: bool, count: int, scores: float) -> None:  # noqa: FBT001
    head = evolve(RPN, test_cfg=evolve(RPN.test_cfg, nms_across_levels=across)).build()
    fill_weights(head)
    found = head.eval().predict(features(strides=RPN_STRIDES), batch())[0]

    assert len(found) == count
    assert_close(found.boxes[0], torch.tensor([31.23, 8.53, 64.65, 40.92]), atol=0.01, rtol=0)
    assert float(found.scores.sum()) == pytest.approx(scores, rel=1e-4)


def test_in_a_two_stage_detector_every_loss_has_rpn_in_its_name() -> None:
    head = RPN.build()
    assert isinstance(head, GARPNHead)
    losses, proposals = head.loss_and_proposals(features(strides=RPN_STRIDES), batch(), TARGETS)

    assert set(losses) == {
        "loss_rpn_cls",
        "loss_rpn_bbox",
        "rpn_loss_anchor_shape",
        "rpn_loss_anchor_loc",
    }
    assert all(0 < len(found) <= 300 and not found.boxes.requires_grad for found in proposals)


def test_the_centre_of_an_object_is_positive_on_its_level_and_nothing_is_said_around_it() -> None:
    # An object of 64 x 64 pixels, on levels whose anchors are 32, 64 and 128 pixels large.
    box = torch.tensor([[32.0, 32.0, 96.0, 96.0]])
    sizes = [(16, 16), (8, 8), (4, 4)]
    central, weights = location_targets(
        [box], sizes, (8, 16, 32), anchor_scale=4.0, center_ratio=0.2, ignore_ratio=0.5
    )
    first, second, third = torch.split(weights.view(-1), [256, 64, 16])
    positive = torch.split(central.view(-1), [256, 64, 16])

    # The centre is at (4, 4) of the second level; 0.2 of 4 cells rounds to that one, 0.5 to 3 x 3.
    assert [int(level.sum()) for level in positive] == [0, 1, 0]
    assert bool(positive[1].view(8, 8)[4, 4])
    expected = torch.full((8, 8), 0.1)
    expected[3:6, 3:6] = 0.0
    expected[4, 4] = 1.0
    assert_close(second.view(8, 8), expected)
    # On the next levels as much around it is left out: cells 6 to 10, and (1.5, 2.5) rounded to even: 2.
    below = torch.full((16, 16), 0.1)
    below[6:11, 6:11] = 0.0
    assert_close(first.view(16, 16), below)
    above = torch.full((4, 4), 0.1)
    above[2, 2] = 0.0
    assert_close(third.view(4, 4), above)


@torch.no_grad()
def test_a_guided_anchor_is_a_square_of_the_predicted_shape() -> None:
    coder = DeltaXYWHBBoxCoderConfig(target_stds=(0.07, 0.07, 0.14, 0.14))
    head = evolve(RPN, anchor_coder=coder).build()
    shapes = [torch.zeros(1, 2, size, size) for size in (4, 2, 1, 1, 1)]
    shapes[0][0, :, 1, 2] = torch.tensor([math.log(2) / 0.14, -math.log(2) / 0.14])
    first = head.guided_anchors(shapes)[0][0].view(4, 4, 4)

    assert_close(first[0, 0], torch.tensor([-16.0, -16.0, 16.0, 16.0]))
    assert_close(first[1, 2], torch.tensor([8.0 - 32, 4.0 - 8, 8.0 + 32, 4.0 + 8]))


@torch.no_grad()
def test_places_whose_location_score_is_low_have_no_detections() -> None:
    head = RETINA.build()
    fill_weights(head)
    head.eval()
    for weights in (head.conv_loc.weight, head.conv_loc.bias):
        assert weights is not None
        weights.zero_()
    assert len(head.predict(features(), batch())[0]) > 0
    assert head.conv_loc.bias is not None
    head.conv_loc.bias.fill_(-1.0)
    assert len(head.predict(features(), batch())[0]) == 0
    head.train()  # proposals for training come from all places
    assert len(head.predict(features(), batch())[0]) > 0


@pytest.mark.parametrize(("label", "high"), [(0, True), (1, False)])
def test_the_label_of_centres_says_whether_they_learn_high_or_low_scores(
    label: Literal[0, 1],
    high: bool,  # noqa: FBT001
) -> None:
    config = evolve(RETINA, loc_center_label=label, loss_loc=CrossEntropyLossConfig(use_sigmoid=True))
    head = config.build()
    wide = [torch.zeros(1, 1, size, size, requires_grad=True) for size in (16, 8, 4, 2, 1)]
    loss = head.location_loss(wide, [objects((20.0, 20.0, 108.0, 108.0))])
    loss.backward()
    # The object is of the second level, on which its centre is the fifth cell of the fifth row.
    grad = wide[1].grad
    assert grad is not None
    assert bool(grad[0, 0, 4, 4] < 0) is high


@pytest.mark.parametrize(
    "config",
    [
        evolve(RETINA, square_anchor_generator=evolve(RETINA.square_anchor_generator, scales=(8.0,))),
        evolve(RETINA, square_anchor_generator=evolve(RETINA.square_anchor_generator, ratios=(1.0, 2.0))),
        evolve(RETINA, ga_sampler=RandomSamplerConfig()),
    ],
)
def test_squares_and_shapes_that_do_not_fit_are_an_error(config: GARetinaHeadConfig) -> None:
    with pytest.raises(ConfigError, match=r"Make the first|one ratio and one scale|ga_sampler"):
        config.resolved()


def test_the_plain_head_learns_too() -> None:
    head = built(GuidedAnchorHeadConfig(loss_cls=CrossEntropyLossConfig()))
    losses = head.loss(features(), batch(), TARGETS)
    torch.stack(list(losses.values())).sum().backward()

    assert set(losses) == {"loss_cls", "loss_bbox", "loss_shape", "loss_loc"}
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("guided_anchoring/ga-retinanet_r50_fpn_1x_coco", ga_retinanet.Model()),
        ("guided_anchoring/ga-faster-rcnn_r50_fpn_1x_coco", ga_faster_rcnn.Model()),
        ("guided_anchoring/ga-rpn_r50_fpn_1x_coco", ga_rpn.Model()),
        ("rpn/rpn_r50_fpn_1x_coco", rpn.Model()),
    ],
)
def test_the_state_dict_is_mmdetections(name: str, config: DetectorConfig) -> None:
    zoo.check_state_dict(f"{name}.py", config)
