"""The targets of the points of CenterNet2's head."""

from __future__ import annotations

from math import exp

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.config import ConfigError
from detcfg.experiments import centernet
from detcfg.heads.anchor_free.centernet_targets import HeatTargetMaker, HeatTargets, MorePositives
from detcfg.heads.anchor_free.centernet_update_head import CenterNetUpdateHeadConfig
from tests.support import zoo
from tests.support.dense import built, objects

RANGES = ((0.0, 40.0), (30.0, 1000.0))
SIZES = ((16, 24), (8, 12))
POINTS = MlvlPointGeneratorConfig(strides=(8, 16)).grid_priors(SIZES)
BOX = (30.0, 22.0, 62.0, 70.0)  # centre (46, 46), cells (5, 5) and (2, 2); half the diagonal is 28.8


def heat_targets(*boxes: tuple[float, float, float, float]) -> HeatTargets:
    maker = HeatTargetMaker(num_classes=3, strides=(8, 16), regress_ranges=RANGES, min_radius=4, delta=1 / 9)
    return maker(POINTS, [objects(*boxes)])


def test_the_nine_cells_around_a_centre_learn_the_box_on_the_level_that_suits() -> None:
    found = heat_targets(BOX)

    rows = found.positive[0].nonzero().flatten().tolist()
    assert rows == [y * 24 + x for y in (4, 5, 6) for x in (4, 5, 6)]
    left, top, right, bottom = found.distances[0, 5 * 24 + 5].tolist()
    assert (left, top, right, bottom) == ((44 - 30) / 8, (44 - 22) / 8, (62 - 44) / 8, (70 - 44) / 8)


def test_heat_is_one_at_the_centres_cell_and_falls_with_the_distance() -> None:
    heat = heat_targets(BOX).heat[0, :, 0]
    radius = max(2 * (32 * 48) / 81, 16)

    assert heat[5 * 24 + 5] == 1
    beside = ((44 + 8 - 46) ** 2 + (44 - 46) ** 2) / radius
    assert_close(heat[5 * 24 + 6], tensor(exp(-beside)))


def test_an_image_without_objects_is_cold() -> None:
    assert not heat_targets().heat.any()
    assert not heat_targets().positive.any()


def test_points_learn_a_class_where_their_box_is_predicted_well() -> None:
    more = MorePositives(strides=(8, 16), regress_ranges=RANGES, thresh=0.2, topk=9)
    good = 4 * 24 + 6
    predicted = torch.zeros(16 * 24 + 8 * 12, 4)
    predicted[good] = 1.0

    def loss(distances: Tensor, target: Tensor) -> Tensor:
        assert distances.shape == target.shape
        return 1 - distances[:, 0]

    inds, labels = more(SIZES, predicted, [objects(BOX)], loss)

    # The centre's own cell, and the one that predicts well.
    assert sorted(inds.tolist()) == [good, 5 * 24 + 5]
    assert labels.tolist() == [0, 0]


def test_each_level_needs_its_range() -> None:
    with pytest.raises(ConfigError, match="regress_ranges"):
        built(CenterNetUpdateHeadConfig(regress_ranges=RANGES))


def test_the_parameters_are_mmdetections() -> None:
    model = centernet.Model(backbone=ResNetConfig(depth=101))
    zoo.check_state_dict("centernet/centernet-update_r101_fpn_8xb8-amp-lsj-200e_coco.py", model)
