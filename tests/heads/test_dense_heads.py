"""What every head of a one-stage detector does."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from detcfg.experiments import (
    atss,
    autoassign,
    centernet,
    ddod,
    fcos,
    foveabox,
    free_anchor,
    fsaf,
    ga_retinanet,
    gfl,
    ghm,
    paa,
    reppoints,
    retinanet,
    sabl_retinanet,
    tood,
    vfnet,
)
from detcfg.heads.anchor_based.tood_head import TOODHeadConfig
from detcfg.heads.anchor_free.fcos_head import FCOSHeadConfig
from detcfg.heads.anchor_free.fovea_head import FoveaHeadConfig
from detcfg.heads.anchor_free.vfnet_head import VFNetHeadConfig
from detcfg.heads.dense.base import DenseHead, DenseHeadConfig
from detcfg.layers.norm import GNConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.structures import Targets
from tests.support.dense import SIZE, batch, built, features, objects

HEADS: dict[str, DenseHeadConfig] = {
    "retinanet": retinanet.Model().bbox_head,
    "ghm": ghm.Model().bbox_head,
    "atss": atss.Model().bbox_head,
    "free_anchor": free_anchor.Model().bbox_head,
    "vfnet": vfnet.Model().bbox_head,
    "vfnet by FCOS's rules": VFNetHeadConfig(use_atss=False, use_vfl=False, bbox_norm_type="stride"),
    "autoassign": autoassign.Model().bbox_head,
    "ddod": ddod.Model().bbox_head,
    "paa": paa.Model().bbox_head,
    "tood": tood.Model().bbox_head,
    "tood after its first epochs": TOODHeadConfig(stacked_convs=3, initial_epoch=0),
    "fsaf": fsaf.Model().bbox_head,
    "foveabox": foveabox.Model().bbox_head,
    "foveabox with align": FoveaHeadConfig(with_deform=True, norm_cfg=GNConfig()),
    "guided anchoring": ga_retinanet.Model().bbox_head,
    "sabl": sabl_retinanet.Model().bbox_head,
    "gfl": gfl.Model().bbox_head,
    "centernet": centernet.Model().bbox_head,
    "reppoints": reppoints.Model().bbox_head,
    "fcos": fcos.Model().bbox_head,
    "fcos with its tricks": FCOSHeadConfig(
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        dcn_on_last_conv=True,
        conv_bias=True,
        loss_bbox=GIoULossConfig(),
    ),
}
ONE = objects((20.0, 30.0, 100.0, 90.0))
NONE = objects()
IGNORED = objects((20.0, 30.0, 100.0, 90.0), ignored=True)


@pytest.fixture(params=sorted(HEADS))
def head(request: pytest.FixtureRequest) -> DenseHead:
    return built(HEADS[request.param])


@pytest.mark.parametrize("second", [ONE, NONE, IGNORED], ids=["one", "none", "ignored"])
@pytest.mark.parametrize("first", [ONE, NONE, IGNORED], ids=["one", "none", "ignored"])
def test_losses_and_gradients_are_finite_whatever_the_images_hold(
    head: DenseHead, first: Targets, second: Targets
) -> None:
    losses = head.loss(features(), batch(), [first, second])

    assert all(loss.dim() == 0 and loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_the_order_of_objects_does_not_matter(head: DenseHead) -> None:
    two = objects((20.0, 30.0, 100.0, 90.0), (110.0, 40.0, 180.0, 120.0))

    head.eval()  # GHM remembers former batches in training
    first = head.loss(features(1), batch(1), [two])
    second = head.loss(features(1), batch(1), [two[torch.tensor([1, 0])]])

    for name, loss in first.items():
        assert_close(second[name], loss, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_detections_come_in_the_pixels_of_the_output(head: DenseHead) -> None:
    head.eval()
    height, width = SIZE
    doubled = head.predict(features(1), batch(1, (2 * height, 2 * width)))[0]
    plain = head.predict(features(1), batch(1))[0]

    assert len(plain) > 0
    assert_close(doubled.boxes, 2 * plain.boxes)
    assert_close(doubled.scores, plain.scores)
