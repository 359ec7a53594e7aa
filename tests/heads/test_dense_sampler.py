"""Samplers that put ground-truth boxes among the priors, or ask the head for predictions, are for RoI heads."""

from __future__ import annotations

import pytest
from attrs import evolve

from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.combined import CombinedSamplerConfig
from detcfg.boxes.samplers.ohem import OHEMSamplerConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.boxes.samplers.score_hlr import ScoreHLRSamplerConfig
from detcfg.config import ConfigError
from detcfg.experiments import faster_rcnn
from detcfg.heads.anchor_based.retina_head import RetinaHeadConfig
from detcfg.heads.anchor_free.reppoints_head import RepPointsHeadConfig
from detcfg.heads.anchor_free.vfnet_head import VFNetHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from tests.support.dense import STRIDES


@pytest.mark.parametrize("sampler", [RandomSamplerConfig(), CombinedSamplerConfig()])
def test_the_rpn_refuses_it_before_a_weight_is_made_and_says_where(sampler: SamplerConfig) -> None:
    model = faster_rcnn.Model(rpn_head=RPNHeadConfig(sampler=sampler))
    message = r"model\.rpn_head: sampler\.add_gt_as_proposals is True.*Set it to False"
    with pytest.raises(ConfigError, match=message):
        evolve(faster_rcnn.Experiment(), model=model).resolved()


@pytest.mark.parametrize("config", [RetinaHeadConfig(), RepPointsHeadConfig(), VFNetHeadConfig()])
def test_so_does_every_dense_head_with_a_sampler(
    config: RetinaHeadConfig | RepPointsHeadConfig | VFNetHeadConfig,
) -> None:
    config = evolve(config, num_classes=3, in_channels=32, in_strides=STRIDES)
    evolve(config, sampler=RandomSamplerConfig(add_gt_as_proposals=False)).resolved()
    with pytest.raises(ConfigError, match=r"sampler\.add_gt_as_proposals is True"):
        evolve(config, sampler=RandomSamplerConfig()).resolved()


@pytest.mark.parametrize(
    "sampler",
    [
        OHEMSamplerConfig(add_gt_as_proposals=False),
        ScoreHLRSamplerConfig(add_gt_as_proposals=False),
        CombinedSamplerConfig(neg_sampler=OHEMSamplerConfig(), add_gt_as_proposals=False),
    ],
)
def test_a_sampler_that_mines_hard_examples_is_refused_before_a_weight_is_made(
    sampler: SamplerConfig,
) -> None:
    model = faster_rcnn.Model(rpn_head=RPNHeadConfig(sampler=sampler))
    message = rf"model\.rpn_head: sampler is {type(sampler).__name__}.*RandomSamplerConfig"
    with pytest.raises(ConfigError, match=message):
        evolve(faster_rcnn.Experiment(), model=model).resolved()
