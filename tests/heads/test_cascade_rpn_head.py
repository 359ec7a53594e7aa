"""Cascade RPN."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.config import ConfigError
from detcfg.heads.proposal.cascade_rpn_head import CascadeRPNHead, CascadeRPNHeadConfig
from detcfg.heads.proposal.rpn_head import RPNTestConfig
from detcfg.heads.proposal.stage_cascade_rpn_head import StageCascadeRPNHeadConfig
from tests.support.dense import STRIDES, batch, features, objects

HEAD = CascadeRPNHeadConfig(in_channels=32, in_strides=STRIDES)


def test_a_stage_starts_from_the_anchors_that_the_one_before_refined() -> None:
    torch.manual_seed(0)
    head = HEAD.build()
    assert isinstance(head, CascadeRPNHead)
    first, second = head(features(), batch())

    decoded = first.stage.bbox_coder.decode(
        first.anchors[0][1], first.predictions[1][0][1].permute(1, 2, 0).reshape(-1, 4), max_shape=(128, 192)
    )
    torch.testing.assert_close(decoded, second.anchors[0][1])
    assert not second.anchors[0].requires_grad


@pytest.mark.parametrize("boxes", [((20.0, 30.0, 100.0, 90.0),), ()])
def test_losses_are_finite_and_reach_every_stage(
    boxes: tuple[tuple[float, float, float, float], ...],
) -> None:
    head = HEAD.build()
    losses, proposals = head.loss_and_proposals(features(), batch(), [objects(*boxes), objects()])
    torch.stack(list(losses.values())).sum().backward()

    assert {"s0.loss_rpn_reg", "s1.loss_rpn_cls", "s1.loss_rpn_reg"} == set(losses)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert all(len(found) > 0 and not found.boxes.requires_grad for found in proposals)


def test_what_is_said_of_proposals_holds_for_every_stage() -> None:
    config = evolve(HEAD, test_cfg=RPNTestConfig(max_per_img=7)).resolved()
    assert {7} == {stage.test_cfg.max_per_img for stage in config.stages}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (evolve(HEAD, num_stages=3), "num_stages is 3, but stages has 2"),
        (evolve(HEAD, stages=HEAD.stages[::-1]), "with_cls=False"),
        (
            evolve(
                HEAD,
                num_stages=1,
                stages=(StageCascadeRPNHeadConfig(anchor_generator=AnchorGeneratorConfig(scales=(8.0,))),),
            ),
            "3 anchors at each location; StageCascadeRPNHeadConfig needs one",
        ),
    ],
)
def test_stages_that_do_not_fit_are_an_error(config: CascadeRPNHeadConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.resolved()
