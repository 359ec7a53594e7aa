"""RetinaNet's head with side-aware boundary localisation."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import nn
from torch.testing import assert_close

from detcfg.boxes.coders.bucketing import BucketingBBoxCoderConfig
from detcfg.config import ConfigError
from detcfg.detectors.base import DetectorConfig
from detcfg.experiments import sabl_retinanet
from detcfg.heads.anchor_based.sabl_retina_head import SABLRetinaHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.layers.norm import GNConfig
from detcfg.losses.giou import GIoULossConfig
from tests.support import zoo
from tests.support.dense import STRIDES, batch, features, fill_weights, objects

HEAD = SABLRetinaHeadConfig(
    num_classes=3,
    in_channels=32,
    in_strides=STRIDES,
    feat_channels=32,
    stacked_convs=1,
    test_cfg=DenseTestConfig(nms_pre=50),
)
TARGETS = [
    objects((20.0, 30.0, 100.0, 90.0), (50.0, 10.0, 150.0, 120.0), (5.0, 5.0, 15.0, 20.0)),
    objects((10.0, 10.0, 60.0, 80.0)),
]


@pytest.mark.parametrize(
    ("allowed_border", "expected", "norms"),
    [
        (-1, (15.255277, 1.025515, 1.12898), (75.420074, 0.691923, 1.340841)),
        (0, (11.666483, 1.020208, 1.159277), (63.773251, 0.735753, 1.558311)),
    ],
)
def test_losses_and_gradients_are_mmdetections(
    allowed_border: int, expected: tuple[float, float, float], norms: tuple[float, float, float]
) -> None:
    """The figures are what MMDetection 3.3.0's own head gives for these weights, features and objects."""
    head = evolve(HEAD, allowed_border=allowed_border).build()
    fill_weights(head)
    losses = head.loss(features(), batch(), TARGETS)
    torch.stack(list(losses.values())).sum().backward()

    names = ("loss_cls", "loss_bbox_cls", "loss_bbox_reg")
    assert {name: float(loss.detach()) for name, loss in losses.items()} == pytest.approx(
        dict(zip(names, expected, strict=True)), rel=1e-4
    )
    for layer, norm in zip((head.retina_cls, head.retina_bbox_cls, head.retina_bbox_reg), norms, strict=True):
        assert isinstance(layer, nn.Conv2d)
        assert layer.weight.grad is not None
        assert float(layer.weight.grad.norm()) == pytest.approx(norm, rel=1e-4)


@torch.no_grad()
def test_detections_are_mmdetections() -> None:
    head = HEAD.build()
    fill_weights(head)
    found = head.eval().predict(features(), batch())[0]

    assert len(found) == 88
    assert_close(found.boxes[1], torch.tensor([109.7, 51.16, 124.75, 69.78]), atol=0.01, rtol=0)
    assert_close(found.scores[:4], torch.tensor([0.4766, 0.4704, 0.434, 0.4314]), atol=1e-4, rtol=0)
    assert float(found.scores.sum()) == pytest.approx(27.1884, rel=1e-4)


@torch.no_grad()
def test_the_side_that_every_number_names_is_the_boxs_and_costs_nothing() -> None:
    coder = HEAD.bbox_coder
    head = HEAD.build()
    square, box = torch.tensor([[32.0, 32.0, 64.0, 64.0]]), torch.tensor([[20.0, 30.0, 70.0, 66.0]])
    target = coder.encode(square, box)
    sure = torch.cat([200 * target[:, :28] - 100, target[:, 28:]], dim=1)

    assert_close(coder.decode(square, sure), box)
    buckets, offsets = head.side_losses(sure, square, box, 1.0)
    assert float(buckets) == pytest.approx(0.0, abs=1e-6)
    assert float(offsets) == 0.0
    # A wrong offset d costs (|d| - beta / 2) * weight over 4 sides of 2 buckets, once for each that it is a target of.
    off = sure.clone()
    off[:, 28:] += 1.0
    weight = float(coder.weights(square, box)[:, 28:].sum())
    _, offsets = head.side_losses(off, square, box, 1.0)
    assert float(offsets) == pytest.approx(1.5 * (1 - 1 / 18) * weight / 8, rel=1e-5)


@pytest.mark.parametrize(
    "config", [evolve(HEAD, reg_decoded_bbox=True), evolve(HEAD, loss_bbox=GIoULossConfig())]
)
def test_a_loss_of_boxes_has_no_effect_and_is_refused(config: SABLRetinaHeadConfig) -> None:
    with pytest.raises(ConfigError, match=r"which has no effect: loss_bbox_cls and loss_bbox_reg"):
        config.resolved()


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sabl-retinanet_r50_fpn_1x_coco", sabl_retinanet.Model()),
        (
            "sabl-retinanet_r50-gn_fpn_1x_coco",
            sabl_retinanet.Model(bbox_head=SABLRetinaHeadConfig(norm_cfg=GNConfig())),
        ),
    ],
)
def test_the_state_dict_is_mmdetections(name: str, config: DetectorConfig) -> None:
    zoo.check_state_dict(f"sabl/{name}.py", config)


def test_an_odd_number_of_buckets_is_rounded_up_to_whole_halves() -> None:
    head = evolve(HEAD, bbox_coder=BucketingBBoxCoderConfig(num_buckets=7, scale_factor=3.0)).build()

    assert head.retina_bbox_reg.out_channels == 16
