"""Score hierarchical local rank."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detcfg.boxes.assigners.base import NEGATIVE, Assignment
from detcfg.boxes.samplers.base import PriorPredictions, PriorScorer
from detcfg.boxes.samplers.score_hlr import ScoreHLRSamplerConfig, nms_groups
from detcfg.structures import Targets

TARGETS = Targets(boxes=torch.tensor([[0.0, 0.0, 8.0, 8.0]]), labels=torch.tensor([1]))
LEFT, RIGHT = [0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 60.0, 10.0]


class _Head(PriorScorer):
    """Takes a prior's first number for its score, and its second for where it is."""

    def sample_losses(self, priors: Tensor, labels: Tensor | None) -> Tensor:
        del labels
        return torch.ones(len(priors))

    def predict(self, priors: Tensor) -> PriorPredictions:
        boxes = torch.where(priors[:, 1:2] > 0, torch.tensor(RIGHT), torch.tensor(LEFT))
        return PriorPredictions(scores=priors[:, 0], boxes=boxes, background_losses=priors[:, 0] + 1)


def _priors(*priors: tuple[float, float]) -> Tensor:
    return torch.tensor([[score, place, 100.0, 100.0] for score, place in priors]).reshape(-1, 4)


def _background(count: int) -> Assignment:
    return Assignment(gt_indices=torch.full((count,), NEGATIVE), max_overlaps=torch.zeros(count))


def test_the_best_of_each_group_come_before_the_second_of_any() -> None:
    priors = _priors((0.9, 0), (0.8, 0), (0.7, 0), (0.6, 1), (0.5, 1))
    sampler = ScoreHLRSamplerConfig(num=4, add_gt_as_proposals=False, k=1.0)

    sampling = sampler.sample(_background(5), priors, TARGETS, scorer=_Head())

    assert [0, 1, 3, 4] == sampling.neg_inds.tolist()  # ranks 0, 2, 1, 3
    assert sampling.neg_weights is not None
    ratio = sampling.neg_weights / sampling.neg_weights[0]
    torch.testing.assert_close(torch.tensor([1.0, 0.6, 0.8, 0.4]), ratio)
    losses = sampling.neg_priors[:, 0] + 1
    torch.testing.assert_close(losses.sum(), (losses * sampling.neg_weights).sum())


def test_what_is_taken_for_nothing_fills_up_with_the_least_weight() -> None:
    priors = _priors((0.01, 0), (0.02, 1), (0.9, 0), (0.04, 1), (0.8, 0))
    sampler = ScoreHLRSamplerConfig(num=4, add_gt_as_proposals=False)

    sampling = sampler.sample(_background(5), priors, TARGETS, scorer=_Head())

    assert 4 == sampling.num_neg
    assert {2, 4} < set(sampling.neg_inds.tolist())
    assert sampling.neg_weights is not None
    weights = {int(i): float(w) for i, w in zip(sampling.neg_inds, sampling.neg_weights, strict=True)}
    assert weights[2] > weights[4]
    assert {weights[4]} == {weight for index, weight in weights.items() if index not in (2, 4)}


@pytest.mark.parametrize("count", [0, 3])
def test_a_head_that_finds_nothing_leaves_all_negatives_as_they_are(count: int) -> None:
    sampler = ScoreHLRSamplerConfig(num=10)

    sampling = sampler.sample(_background(count), _priors(*[(0.0, 0)] * count), TARGETS, scorer=_Head())

    assert sampling.neg_weights is not None
    assert [1.0] * count == sampling.neg_weights.tolist()
    assert [True] == sampling.pos_is_gt.tolist()


def test_a_head_that_cannot_say_what_it_takes_priors_for_is_told_so() -> None:
    with pytest.raises(TypeError, match="PISARoIHeadConfig"):
        ScoreHLRSamplerConfig(num=10).sample(_background(1), _priors((0.5, 0)), TARGETS)


def test_a_group_is_what_one_box_suppresses() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [5, 0, 15, 10], [40, 0, 50, 10], [3, 3, 3, 3]])
    scores = torch.tensor([0.5, 0.9, 0.8, 0.7, 0.1])

    # The second has the highest score, and overlaps the first by 2 / 3 and the third by 7 / 13.
    assert [0, 0, 0, 1, 2] == nms_groups(boxes, scores, 0.5).tolist()
    assert [0, 0, 1, 2, 3] == nms_groups(boxes, scores, 0.6).tolist()
