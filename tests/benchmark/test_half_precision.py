"""Detections are found again by their class, their box and their score."""

from __future__ import annotations

import torch

from detcfg.structures import Detections
from tests.benchmark.half_precision import differences


def detections(*rows: tuple[float, float, int]) -> Detections:
    """Boxes of 10 pixels: x, score and label of each."""
    boxes = torch.tensor([[x, 0.0, x + 10, 10.0] for x, _, _ in rows]).reshape(-1, 4)
    scores = torch.tensor([score for _, score, _ in rows])
    return Detections(boxes, scores, torch.tensor([label for _, _, label in rows], dtype=torch.int64))


def test_a_detection_is_held_against_the_nearest_of_its_class() -> None:
    whole = detections((0.0, 0.9, 0), (50.0, 0.8, 1))
    half = detections((50.0, 0.7, 0), (0.25, 0.89, 0), (51.0, 0.8, 1))
    found = differences(whole, half)

    torch.testing.assert_close(found.sides, torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(found.scores, torch.tensor([0.01, 0.0]))
    assert found.found_again.tolist() == [True, False]


def test_a_detection_whose_class_is_gone_is_not_found_again() -> None:
    for half in (detections((0.0, 0.9, 1)), detections()):
        found = differences(detections((0.0, 0.9, 0)), half)
        assert found.sides.tolist() == [torch.inf]
        assert not found.found_again.any()
