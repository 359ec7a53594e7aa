"""Box arithmetic: its pieces against each other, and against examples that one can check by head."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.boxes.geometry import boxes_around, centres, inside, side_distances

BOX = tensor([[10.0, 20.0, 50.0, 100.0]])  # centre (30, 60)


def some_boxes(count: int = 7) -> Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(0)) * 100
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


def some_points(count: int = 50) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(1)) * 100


def test_a_box_is_around_its_centre() -> None:
    boxes = some_boxes()

    assert_close(boxes_around(centres(boxes), (boxes[:, 2:] - boxes[:, :2]) / 2), boxes)
    assert centres(BOX).tolist() == [[30.0, 60.0]]
    assert boxes_around(centres(BOX), tensor([20.0, 40.0])).tolist() == BOX.tolist()


@pytest.mark.parametrize("shape", [(3, 5), (1, 1)])
def test_centres_and_distances_keep_the_dimensions_before_the_last(shape: tuple[int, int]) -> None:
    boxes, points = some_boxes(15).reshape(15, 4)[: shape[0] * shape[1]], some_points(shape[0] * shape[1])

    assert torch.equal(centres(boxes.view(*shape, 4)), centres(boxes).view(*shape, 2))
    distances = side_distances(points.view(*shape, 2), boxes.view(*shape, 4))
    assert torch.equal(distances, side_distances(points, boxes).view(*shape, 4))


def test_distances_lead_from_points_back_to_the_sides() -> None:
    points, boxes = some_points(), some_boxes()

    distances = side_distances(points[:, None], boxes)

    decoded = DistancePointBBoxCoderConfig().decode(points[:, None], distances)
    assert_close(decoded, boxes.expand(len(points), -1, -1))
    assert side_distances(tensor([14.0, 90.0]), BOX).tolist() == [[4.0, 70.0, 36.0, 10.0]]


def test_a_point_is_inside_where_every_side_is_further_than_the_margin() -> None:
    points, boxes = some_points(), some_boxes()
    x, y = points[:, None].unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(-1)

    assert torch.equal(inside(points, boxes, 0), (x > x1) & (x < x2) & (y > y1) & (y < y2))
    by_head = tensor([[10.0, 60.0], [10.0078125, 60.0], [11.0, 60.0], [51.0, 60.0]])
    assert inside(by_head, BOX, 0).flatten().tolist() == [False, True, True, False]
    assert inside(by_head, BOX).flatten().tolist() == [False, False, True, False]  # 0.01 pixels


def test_each_point_may_have_boxes_that_no_other_has() -> None:
    points, boxes = some_points(5), some_boxes(15).view(5, 3, 4)

    expected = torch.cat([inside(point[None], own, 0) for point, own in zip(points, boxes, strict=True)])
    assert torch.equal(inside(points, boxes, 0), expected)
