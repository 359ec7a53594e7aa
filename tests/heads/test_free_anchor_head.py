"""FreeAnchor's head: bags, and how probable it is that a box is an object's."""

from __future__ import annotations

import torch
from attrs import evolve
from torch.testing import assert_close

from detcfg.heads.anchor_based.free_anchor_retina_head import (
    FreeAnchorRetinaHead,
    FreeAnchorRetinaHeadConfig,
    mean_max,
)
from tests.support.dense import built, objects

BOX = (20.0, 20.0, 60.0, 60.0)


def head() -> FreeAnchorRetinaHead:
    made = built(FreeAnchorRetinaHeadConfig(bbox_thr=0.5, pre_anchor_topk=2))
    assert isinstance(made, FreeAnchorRetinaHead)
    return made


def test_the_mean_max_is_a_mean_of_low_and_a_maximum_of_high_probabilities() -> None:
    assert_close(mean_max(torch.tensor([[0.0, 0.02]])), torch.tensor([0.01]), rtol=0.05, atol=0)
    assert_close(mean_max(torch.tensor([[0.0, 1.0, 0.5]])), torch.tensor([1.0]))


def test_box_probability_rises_from_the_threshold_to_the_best_overlap() -> None:
    anchors = torch.tensor(
        [BOX, (20.0, 20.0, 60.0, 50.0), (20.0, 20.0, 60.0, 40.0), (90.0, 90.0, 99.0, 99.0)]
    )
    one = evolve(objects(BOX), labels=torch.tensor([2]))

    probability = head().box_probability(torch.zeros(4, 4), anchors, one)

    # The overlaps are 1, 0.75, 0.5 and 0.
    assert_close(probability[:, 2], torch.tensor([1.0, 0.5, 0.0, 0.0]))
    assert not probability[:, :2].any()


def test_a_perfect_anchor_in_the_bag_is_enough() -> None:
    anchors = torch.tensor([BOX, (20.0, 20.0, 60.0, 50.0), (90.0, 90.0, 99.0, 99.0)])
    probs = torch.full((3, 3), 0.01)
    probs[0, 0] = 1.0

    loss = head().positive_bag_loss(probs, torch.zeros(3, 4), anchors, objects(BOX))
    worse = head().positive_bag_loss(probs, torch.ones(3, 4), anchors, objects(BOX))

    assert_close(loss, torch.zeros(1), rtol=0, atol=1e-6)
    assert worse > 0.1
