"""VFNet's head: the star, and the units of distances."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.config import ConfigError
from detcfg.heads.anchor_free.vfnet_head import VFNetHead, VFNetHeadConfig, star_offsets
from tests.support.dense import built, features


def test_the_star_is_the_box_of_corners_and_sides_and_the_point() -> None:
    left, up, right, down = 1.5, 2.0, 3.0, 0.5
    distances = torch.tensor([left, up, right, down]).reshape(1, 4, 1, 1)
    taps = torch.tensor([(y, x) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)])

    places = star_offsets(distances).reshape(9, 2) + taps

    assert places.tolist() == [[y, x] for y in (-up, 0, down) for x in (-left, 0, right)]


def test_the_units_are_upper_ends_of_ranges_or_strides() -> None:
    strides = (8, 16, 32, 64, 128)

    assert VFNetHeadConfig(in_strides=strides).units == (64, 128, 256, 512, 1024)
    assert VFNetHeadConfig(in_strides=strides, bbox_norm_type="stride").units == strides


def test_points_are_where_the_anchors_are_or_in_the_middle_of_cells() -> None:
    by_anchors, by_points = built(VFNetHeadConfig()), built(VFNetHeadConfig(use_atss=False))
    assert isinstance(by_anchors, VFNetHead)
    assert isinstance(by_points, VFNetHead)

    assert by_anchors.priors(features(1))[0][1].tolist() == [8, 0]
    assert by_points.priors(features(1))[0][1].tolist() == [12, 4]


def test_a_share_of_the_stars_gradient_reaches_the_coarse_boxes() -> None:
    def gradient(share: float) -> torch.Tensor:
        head = built(VFNetHeadConfig(gradient_mul=share))
        assert isinstance(head, VFNetHead)
        scores = head(features(1))[0][0].sum()
        return torch.autograd.grad(scores, head.vfnet_reg.weight)[0]

    assert not gradient(0.0).any()
    assert gradient(1.0).any()
    assert_close(gradient(0.5), gradient(1.0) / 2, rtol=1e-3, atol=1e-6)


def test_several_anchors_at_a_location_are_refused() -> None:
    with pytest.raises(ConfigError, match="9 anchors at each location"):
        built(
            VFNetHeadConfig(anchor_generator=AnchorGeneratorConfig(octave_base_scale=4, scales_per_octave=3))
        )
