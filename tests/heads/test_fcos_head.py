"""FCOS's head: which points learn what, and in which units."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch.testing import assert_close

from detcfg.config import ConfigError
from detcfg.heads.anchor_free.fcos_head import FCOSHead, FCOSHeadConfig
from detcfg.heads.dense.point_targets import PointTargetMaker
from detcfg.layers.conv import ConvSpec
from detcfg.layers.normed_conv import NormedConv2dConfig
from tests.support.dense import batch, built, features, objects

POINTS = torch.tensor([[20.0, 30.0], [40.0, 30.0], [60.0, 50.0], [75.0, 45.0]])
MAKER = PointTargetMaker(num_classes=3, strides=(8,), regress_ranges=((-1, 1e8),))


def test_a_point_learns_the_distances_to_the_smallest_object_around_it() -> None:
    two = objects((10.0, 10.0, 110.0, 90.0), (30.0, 20.0, 70.0, 60.0))

    found = MAKER([POINTS], [two])

    assert found.labels.tolist() == [[0, 1, 1, 0]]
    assert found.distances[0, :2].tolist() == [[10, 20, 90, 60], [10, 10, 30, 30]]


def test_center_sampling_leaves_only_points_near_the_centre() -> None:
    one = objects((10.0, 10.0, 110.0, 90.0))  # its centre is (60, 50)

    found = evolve(MAKER, center_sample_radius=2)([POINTS], [one])

    assert found.labels.tolist() == [[3, 3, 0, 0]]


def test_an_object_is_assigned_to_the_level_whose_range_holds_its_farthest_side() -> None:
    maker = evolve(MAKER, strides=(8, 16), regress_ranges=((-1, 64), (64, 128)))

    found = maker([POINTS[2:], POINTS[:2]], [objects((10.0, 10.0, 110.0, 90.0))])

    assert found.labels.tolist() == [[0, 3, 0, 0]]  # farthest sides: 50, 65, 90, 70


def test_distances_in_strides_give_the_same_boxes() -> None:
    head = built(FCOSHeadConfig(norm_on_bbox=True))
    head.eval()
    assert isinstance(head, FCOSHead)
    with torch.no_grad():
        cls_scores, bbox_preds, centernesses = head(features())
        strides = (8, 16, 32, 64, 128)
        pixels = tuple(level * stride for level, stride in zip(bbox_preds, strides, strict=True))
        in_strides = head.detections((cls_scores, bbox_preds, centernesses), batch())
        head.norm_on_bbox = False
        in_pixels = head.detections((cls_scores, pixels, centernesses), batch())

    assert_close(in_strides[0].boxes, in_pixels[0].boxes)
    assert len(in_pixels[0]) > 0


def test_a_range_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"regress_ranges.*in_strides.*8, 16, 32, 64, 128"):
        built(FCOSHeadConfig(regress_ranges=((-1, 64), (64, 1e8))))


@pytest.mark.parametrize("over_kernel", [True, False])
def test_logits_of_a_normed_predictor_do_not_depend_on_the_size_of_its_input(*, over_kernel: bool) -> None:
    predictor = NormedConv2dConfig(temperature=50.0, norm_over_kernel=over_kernel).build_for(
        ConvSpec(32, 3, 1)
    )
    feature = features(1)[2]
    cosine = torch.nn.functional.cosine_similarity(
        feature[:, None], predictor.weight[None, :, :, 0, 0, None, None], dim=2
    )

    assert predictor.bias is not None
    got = predictor(feature) - predictor.bias[:, None, None]
    assert_close(got, 50 * cosine, rtol=1e-4, atol=1e-4)
    assert_close(predictor(3 * feature), predictor(feature), rtol=1e-4, atol=1e-4)
