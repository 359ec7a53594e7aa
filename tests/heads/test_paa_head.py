"""PAA's head: mixtures, which candidates stay, and votes."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from detcfg.boxes.mixture import Covariance, fit_mixtures
from detcfg.boxes.voting import vote
from detcfg.heads.anchor_based.paa_head import PAAHead, PAAHeadConfig
from detcfg.structures import Detections
from tests.support.dense import built


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical", "tied"])
def test_two_heaps_of_numbers_are_told_apart(covariance_type: Covariance) -> None:
    values = torch.tensor([[1.0, 1.1, 1.2, 1.15, 3.0, 3.1, 2.9], [0.0, 0.1, 5.0, 5.1, 9.0, 9.0, 9.0]])
    valid = torch.ones_like(values, dtype=torch.bool)
    valid[1, 4:] = False

    component = fit_mixtures(values, valid, covariance_type).component

    assert component[0].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert component[1, :4].tolist() == [0, 0, 1, 1]


def test_likelihoods_are_those_of_a_normal_distribution_where_all_numbers_are_one_heap() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 2000, generator=generator, dtype=torch.float64)

    found = fit_mixtures(values, torch.ones_like(values, dtype=torch.bool), "tied").log_likelihood

    normal = torch.distributions.Normal(values.mean(), values.std()).log_prob(values)
    assert (found - normal).abs().mean() < 0.1


def test_candidates_whose_losses_are_like_the_best_ones_learn() -> None:
    head = built(PAAHeadConfig(topk=3))
    assert isinstance(head, PAAHead)
    losses = torch.tensor([3.0, 0.5, 0.52, 3.1, 0.51, 9.0, 0.4])
    objects = torch.tensor([0, 0, 0, 0, 0, 2, 0])
    level = torch.tensor([0, 0, 0, 1, 1, 1, 2])

    learns = head.reassign(losses, objects, level)

    assert not learns[[0, 3]].any()  # the bad ones of object 0
    assert learns[6]  # its best one
    assert not learns[5]  # object 2 has but one, which cannot be compared


def test_no_more_candidates_of_a_level_than_topk_learn() -> None:
    head = built(PAAHeadConfig(topk=2))
    assert isinstance(head, PAAHead)
    losses = torch.tensor([0.1, 0.2, 0.3, 0.4, 5.0])

    learns = head.reassign(losses, torch.zeros(5, dtype=torch.long), torch.tensor([0, 0, 0, 0, 1]))

    assert not learns[2:].any()


def test_a_voted_box_is_the_weighed_mean_of_the_candidates_of_its_class() -> None:
    box, near, far = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0], [50.0, 50.0, 60.0, 60.0]
    detections = Detections(boxes=torch.tensor([box]), scores=torch.tensor([0.9]), labels=torch.tensor([1]))
    candidates = Detections(
        boxes=torch.tensor([box, near, near, far]),
        scores=torch.tensor([0.9, 0.6, 0.8, 0.9]),
        labels=torch.tensor([1, 1, 0, 1]),
    )

    weight = 0.6 * torch.exp(torch.tensor(-(0.2**2) / 0.025))
    height = (0.9 * 10 + weight * 8) / (0.9 + weight)
    assert_close(vote(detections, candidates), torch.tensor([[0.0, 0.0, 10.0, float(height)]]))


def test_a_box_without_area_has_no_votes_and_stays_where_it_is() -> None:
    flat = Detections(
        boxes=torch.tensor([[3.0, 4.0, 3.0, 9.0]]), scores=torch.tensor([0.9]), labels=torch.tensor([0])
    )

    assert_close(vote(flat, flat), flat.boxes)
