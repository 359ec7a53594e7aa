"""Soft-NMS."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detcfg.boxes.nms import NMSConfig, multiclass_nms
from detcfg.boxes.soft_nms import SoftNMSConfig

# The second overlaps the first by 1/2, the third overlaps nothing.
BOXES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [50.0, 50.0, 60.0, 60.0]])
SCORES = torch.tensor([0.9, 0.8, 0.6])


@pytest.mark.parametrize(
    ("method", "second"), [("linear", 0.4), ("gaussian", 0.8 * math.exp(-0.25 / 0.5)), ("naive", None)]
)
def test_an_overlapping_box_is_lowered_as_the_method_says(
    method: Literal["naive", "linear", "gaussian"], second: float | None
) -> None:
    kept, scores = SoftNMSConfig(method=method).keep(BOXES, SCORES)

    wanted = {0: 0.9, 2: 0.6} if second is None else {0: 0.9, 2: 0.6, 1: second}
    assert list(wanted) == kept.tolist()
    torch.testing.assert_close(torch.tensor(list(wanted.values())), scores)


def test_boxes_of_other_groups_are_not_lowered_unless_asked_for() -> None:
    groups = torch.tensor([0, 1, 1])
    assert torch.equal(SCORES, SoftNMSConfig().keep(BOXES, SCORES, groups)[1])
    assert 0.4 == pytest.approx(SoftNMSConfig(class_agnostic=True).keep(BOXES, SCORES, groups)[1][2].item())


def test_a_box_that_falls_below_the_least_score_is_gone() -> None:
    assert [0, 2] == SoftNMSConfig(min_score=0.41).keep(BOXES, SCORES)[0].tolist()


def test_detections_have_the_lowered_scores() -> None:
    _, scores, labels, _ = multiclass_nms(
        BOXES, SCORES[:, None], score_thr=0.05, nms=SoftNMSConfig(), max_per_img=100
    )
    torch.testing.assert_close(torch.tensor([0.9, 0.6, 0.4]), scores)
    assert [0, 0, 0] == labels.tolist()


@given(st.integers(0, 2**31), st.integers(0, 30))
def test_the_naive_method_keeps_what_nms_keeps_and_scores_fall(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, count, 2, generator=generator)
    boxes, scores = (
        torch.cat([corner, corner + size + 0.1], dim=1) * 50,
        torch.rand(count, generator=generator),
    )

    plain = NMSConfig(iou_threshold=0.5).keep(boxes, scores)[0]
    naive = SoftNMSConfig(iou_threshold=0.5, method="naive", min_score=1e-9).keep(boxes, scores)[0]
    soft = SoftNMSConfig(iou_threshold=0.5, min_score=0.0).keep(boxes, scores)[1]

    assert plain.tolist() == naive.tolist()
    assert len(soft) == count
    assert (soft[1:] <= soft[:-1]).all()
