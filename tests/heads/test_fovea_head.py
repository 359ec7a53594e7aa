"""FoveaBox's head: the inner part of an object, and the distances to its sides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from detcfg.config import ConfigError
from detcfg.heads.anchor_free.fovea_head import FoveaHead, FoveaHeadConfig
from detcfg.structures import Targets
from tests.support.dense import built, features, objects


def target_boxes(head: FoveaHead, targets: Targets, maps: tuple[torch.Tensor, ...]) -> tuple[Any, Any]:
    """What the head would find if it predicted its own targets exactly."""
    points = head.priors(maps)
    labels, log_distances = head.image_targets(points, [(m.shape[-2], m.shape[-1]) for m in maps], targets)
    edges = torch.cat(
        [torch.full((len(p), 1), float(e)) for p, e in zip(points, head.base_edge_list, strict=True)]
    )
    boxes = head.bbox_coder.decode(torch.cat(list(points)), log_distances.exp() * edges)
    return labels, boxes[labels < head.num_classes]


def test_distances_lead_back_to_the_object() -> None:
    head = built(FoveaHeadConfig())
    assert isinstance(head, FoveaHead)

    labels, boxes = target_boxes(head, objects((20.0, 30.0, 100.0, 90.0)), head(features(1))[0])

    assert len(boxes) > 0
    assert set(labels.tolist()) == {0, 3}
    assert_close(boxes, torch.tensor([[20.0, 30.0, 100.0, 90.0]]).expand_as(boxes), rtol=1e-4, atol=1e-3)


def test_of_two_objects_around_one_point_the_smaller_is_its_target() -> None:
    head = built(FoveaHeadConfig(scale_ranges=((1, 512),) * 5))
    assert isinstance(head, FoveaHead)
    maps = head(features(1))[0]
    two = objects((40.0, 40.0, 80.0, 80.0), (20.0, 20.0, 100.0, 100.0))

    labels, _ = target_boxes(head, two, maps)

    finest = labels[: 16 * 24].reshape(16, 24)
    assert finest[7, 7] == 0  # the centre of both is (60, 60)
    assert finest[5, 5] == 1  # (44, 44) is inside the larger one's inner part only


def test_an_edge_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"base_edge_list is .* and in_strides is"):
        built(FoveaHeadConfig(base_edge_list=(16, 32)))


def test_alignment_sees_the_boxes() -> None:
    head = built(FoveaHeadConfig(with_deform=True))
    before = head(features(1))[0][0]
    assert isinstance(head, FoveaHead)
    with torch.no_grad():
        assert head.conv_reg.bias is not None
        head.conv_reg.bias += 1.0

    assert not torch.equal(head(features(1))[0][0], before)
