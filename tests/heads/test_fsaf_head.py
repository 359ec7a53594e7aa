"""FSAF's head: which level learns which object, and which classes are spared."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from detcfg.boxes.assigners.center_region import CenterRegionAssignerConfig
from detcfg.config import ConfigError
from detcfg.heads.anchor_based.fsaf_head import FSAFHead, FSAFHeadConfig, best_levels
from detcfg.losses.focal import FocalLossConfig
from tests.support.dense import batch, built, features, objects


def test_an_object_is_assigned_to_the_level_of_its_least_mean_loss() -> None:
    objects_ = torch.tensor([0, 0, 0, 1, -1, 1])
    level = torch.tensor([0, 0, 1, 1, 0, 2])
    loss = torch.tensor([1.0, 4.0, 2.0, 5.0, 0.0, 6.0])

    # Object 0: 2.5 on level 0, 2 on level 1. Object 1: 5 on level 1, 6 on level 2, none on level 0.
    assert best_levels(loss, objects_, level, 2, 3).tolist() == [1, 1]


def test_only_one_level_learns_a_box() -> None:
    head = built(FSAFHeadConfig())
    predictions = head(features(1))
    gradients = torch.autograd.grad(
        head.losses(predictions, batch(1), [objects((20.0, 30.0, 100.0, 90.0))])["loss_bbox"],
        predictions[1],
    )

    assert [bool(level.any()) for level in gradients].count(True) == 1


def test_the_ring_around_an_objects_core_does_not_unlearn_its_class() -> None:
    ring = CenterRegionAssignerConfig(pos_scale=0.2, neg_scale=0.8)
    one = objects((20.0, 30.0, 100.0, 90.0))
    narrow, wide = built(FSAFHeadConfig()), built(FSAFHeadConfig(assigner=ring))
    assert isinstance(wide, FSAFHead)
    maps = wide(features(1))[0]
    anchors = wide.priors(maps)

    opened = wide.open_classes(wide.get_targets(anchors, maps, batch(1), [one]), [one])

    assert (opened[..., 0] == 0).any()
    assert_close(opened[..., 1:], torch.ones_like(opened[..., 1:]))
    assert (
        wide.loss(features(1), batch(1), [one])["loss_cls"]
        < narrow.loss(features(1), batch(1), [one])["loss_cls"]
    )


def test_losses_that_are_reduced_are_refused() -> None:
    with pytest.raises(ConfigError, match=r'loss_cls.reduction is "mean"'):
        built(FSAFHeadConfig(loss_cls=FocalLossConfig()))
