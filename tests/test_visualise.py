"""Pictures of detections."""

from __future__ import annotations

import numpy as np
import torch

from detcfg.structures import Detections
from detcfg.visualise import blend_masks, class_colour, draw_detections

GREY = torch.full((3, 60, 80), 100, dtype=torch.uint8)


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels, dtype=torch.int64)
    )


def test_a_box_is_drawn_on_its_border_in_the_colour_of_its_class() -> None:
    picture = np.array(draw_detections(GREY, found([[10, 20, 40, 50]], [0.9], [1]), ("a", "b")))
    assert tuple(picture[49, 25]) == tuple(picture[35, 39]) == tuple(picture[35, 10]) == class_colour(1)
    assert tuple(picture[35, 25]) == (100, 100, 100)
    assert (GREY == 100).all()


def test_what_is_not_sure_enough_is_left_out() -> None:
    nothing = draw_detections(GREY, found([[10, 20, 40, 50]], [0.2], [0]), ("a",), score_thr=0.3)
    assert (np.array(nothing) == 100).all()


def test_the_surest_box_lies_on_top() -> None:
    boxes = [[10.0, 20, 40, 50], [10.0, 20, 40, 50]]
    picture = np.array(draw_detections(GREY, found(boxes, [0.9, 0.5], [0, 1]), ("a", "b")))
    assert tuple(picture[49, 25]) == class_colour(0)


def test_boxes_beyond_the_image_and_without_extent_are_no_trouble() -> None:
    boxes = [[-50.0, -50, 200, 200], [5.0, 5, 5, 5], [79.9, 59.9, 80, 60], [100.0, 100, 120, 120]]
    draw_detections(
        GREY, found(boxes, [0.9] * 4, [0, 1, 2, 30]), ("a", "b", "a name longer than the image is wide")
    )
    draw_detections(torch.zeros((3, 1, 1), dtype=torch.uint8), found(boxes, [0.9] * 4, [0] * 4), ("a",))


def test_a_mask_tints_its_inside_and_outlines_its_border() -> None:
    mask = torch.zeros((1, 60, 80), dtype=torch.bool)
    mask[0, 10:20, 10:20] = True
    blended = blend_masks(GREY, mask, [(200, 0, 100)])
    assert blended[:, 10, 15].tolist() == blended[:, 15, 19].tolist() == [200, 0, 100]
    assert blended[:, 15, 15].tolist() == [145, 55, 100]
    assert (blended[:, ~mask[0]] == 100).all()


def test_neighbouring_classes_look_different() -> None:
    colours = np.array([class_colour(label) for label in range(12)], dtype=float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    assert distances[~np.eye(12, dtype=bool)].min() > 30
