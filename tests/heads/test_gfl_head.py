"""GFL's head: sides as distributions."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.config import ConfigError
from detcfg.heads.anchor_based.gfl_head import GFLHead, GFLHeadConfig
from detcfg.layers.integral import Integral
from tests.support.dense import batch, built, features


def test_the_integral_is_the_mean_of_each_distribution() -> None:
    logits = torch.full((4, 5), -100.0)
    logits[0, 3] = 100.0  # certainly 3
    logits[1, [1, 2]] = 100.0  # 1 or 2
    logits[2] = 0.0  # anything
    logits[3, 0] = 100.0

    assert_close(Integral(4)(logits.reshape(1, 20)), torch.tensor([[3.0, 1.5, 2.0, 0.0]]))


def test_certain_sides_decode_to_so_many_strides_from_the_centre_of_the_cell() -> None:
    head = built(GFLHeadConfig(reg_max=4))
    assert isinstance(head, GFLHead)
    sides = torch.full((1, 4, 5, 16, 24), -100.0)
    for side, strides in enumerate((1, 2, 3, 4)):
        sides[:, side, strides] = 100.0
    scores = torch.full((1, 3, 16, 24), -100.0)
    scores[0, 1, 6, 9] = 100.0
    rest = head(features(1))
    scores, sides = (scores, *rest[0][1:]), (sides.reshape(1, 20, 16, 24), *rest[1][1:])

    found = head.detections((scores, sides), batch(1))[0]

    assert found.labels[0] == 1
    assert_close(found.boxes[0], torch.tensor([72.0 - 8, 48 - 16, 72 + 24, 48 + 32]))


def test_several_anchors_at_a_location_are_refused() -> None:
    generator = AnchorGeneratorConfig(ratios=(0.5, 1.0), octave_base_scale=8, scales_per_octave=1)

    with pytest.raises(ConfigError, match="2 anchors at each location"):
        built(GFLHeadConfig(anchor_generator=generator))
