"""Anchors and points that are spread over the image, against torchvision's generator."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch.testing import assert_close
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from detcfg.boxes.anchors.stretched import StretchedAnchorGeneratorConfig, StretchedPointGeneratorConfig
from detcfg.config import ConfigError

STRIDES = (8, 16, 32, 64, 128)
SIZES = ((32, 40, 50), (64, 80, 101), (128, 161, 203), (256, 322, 406), (512, 645, 812))


@pytest.mark.parametrize("image", [(256, 320), (800, 1088), (32, 64)])
def test_anchors_are_torchvisions(image: tuple[int, int]) -> None:
    grids = [(-(-image[0] // stride), -(-image[1] // stride)) for stride in STRIDES]
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    theirs = AnchorGenerator(SIZES, ((0.5, 1.0, 2.0),) * 5)(
        ImageList(torch.zeros(1, 3, *image), [image]), maps
    )

    ours = StretchedAnchorGeneratorConfig(sizes=SIZES, strides=STRIDES).grid_priors(grids)

    assert_close(torch.cat(ours), theirs[0])


def test_points_are_the_centres_of_anchors() -> None:
    grids = [(100, 136), (50, 68), (25, 34), (13, 17), (7, 9)]
    anchors = StretchedAnchorGeneratorConfig(
        sizes=((8,), (16,), (32,), (64,), (128,)), ratios=(1.0,), strides=STRIDES
    ).grid_priors(grids)
    points = StretchedPointGeneratorConfig(strides=STRIDES).grid_priors(grids)

    for level, centres in zip(anchors, points, strict=True):
        assert_close((level[:, :2] + level[:, 2:]) / 2, centres)


def test_each_level_needs_sizes() -> None:
    with pytest.raises(ConfigError, match=r"sizes is .* and strides is"):
        StretchedAnchorGeneratorConfig(sizes=SIZES[:2], strides=STRIDES).resolved()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scales", (2.0,)),
        ("scales", None),
        ("octave_base_scale", 4.0),
        ("scales_per_octave", 3),
        ("base_sizes", (4.0, 8.0, 16.0, 32.0, 64.0)),
        ("scale_major", False),
        ("centers", ((0.0, 0.0),) * 5),
        ("center_offset", 0.5),
    ],
)
def test_a_field_that_sizes_make_useless_is_refused(name: str, value: object) -> None:
    config = evolve(StretchedAnchorGeneratorConfig(sizes=SIZES, strides=STRIDES), **{name: value})

    with pytest.raises(ConfigError, match=rf"{name} is .*no effect.*sizes.*AnchorGeneratorConfig"):
        config.resolved()


def test_an_offset_of_points_that_are_spread_over_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"offset is 0\.5, .*no effect.*MlvlPointGeneratorConfig"):
        StretchedPointGeneratorConfig(strides=STRIDES, offset=0.5).resolved()
