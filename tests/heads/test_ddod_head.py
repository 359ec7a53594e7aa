"""DDOD's head: levels with few positives count more, and boxes have an assigner of their own."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.config import ConfigError
from detcfg.heads.anchor_based.ddod_head import DDODHead, DDODHeadConfig
from tests.support.dense import batch, built, features, objects

TWO = objects((20.0, 30.0, 100.0, 90.0), (110.0, 40.0, 180.0, 120.0))


def head(config: DDODHeadConfig) -> DDODHead:
    made = built(config)
    assert isinstance(made, DDODHead)
    return made


def test_positives_are_counted_in_training_only() -> None:
    counting = head(DDODHeadConfig())
    counting.eval().loss(features(1), batch(1), [TWO])
    assert not counting.positives_so_far.any()

    counting.train().loss(features(1), batch(1), [TWO])
    assert counting.positives_so_far.any()
    assert "positives_so_far" not in counting.state_dict()


def test_the_level_of_fewest_positives_weighs_twice_as_much_as_that_of_most() -> None:
    weighing = head(DDODHeadConfig())
    weighing.positives_so_far.copy_(torch.tensor([100, 0, 50, 0, 0]))
    maps = weighing(features(1))[0]
    anchors = weighing.priors(maps)
    found = weighing.get_targets(anchors, maps, batch(1), [objects()])

    weights = weighing.level_weights(found, anchors)

    assert_close(weights[[0, 384, 480, 504, 510]], torch.tensor([1.0, 2.0, 1.5, 2.0, 2.0]))


def test_the_assigner_of_boxes_leaves_classes_alone() -> None:
    nothing = MaxIoUAssignerConfig(pos_iou_thr=0.99, neg_iou_thr=0.99, min_pos_iou=0.99)
    losses = head(DDODHeadConfig()).eval().loss(features(1), batch(1), [TWO])
    no_boxes = head(DDODHeadConfig(reg_assigner=nothing)).eval().loss(features(1), batch(1), [TWO])

    assert_close(no_boxes["loss_cls"], losses["loss_cls"])
    assert no_boxes["loss_bbox"] == 0
    assert losses["loss_bbox"] > 0


def test_deformable_layers_need_a_norm() -> None:
    with pytest.raises(ConfigError, match="use_dcn is True and norm_cfg is None"):
        built(DDODHeadConfig(norm_cfg=None))
