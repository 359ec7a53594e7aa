"""Sampling of the priors with the highest classification loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.samplers.base import PriorPredictions, PriorScorer
from detcfg.boxes.samplers.ohem import OHEMSamplerConfig
from detcfg.structures import Targets

PRIORS = torch.tensor([[float(i), 0.0, i + 1.0, 1.0] for i in range(6)])
ASSIGNMENT = Assignment(gt_indices=torch.tensor([0, 1, 0, -1, -1, -1]), max_overlaps=torch.ones(6))
TARGETS = Targets(
    boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0]]), labels=torch.tensor([7, 3])
)


def test_the_priors_of_the_highest_loss_count_each_kind_up_to_its_number() -> None:
    asked: list[list[int] | None] = []

    class Head(PriorScorer):
        def sample_losses(self, priors: Tensor, labels: Tensor | None) -> Tensor:
            asked.append(None if labels is None else labels.tolist())
            return -(priors[:, 0] - 2).abs()  # the nearer to the third prior, the harder

        def predict(self, priors: Tensor) -> PriorPredictions:
            raise NotImplementedError

    sampler = OHEMSamplerConfig(num=3, pos_fraction=0.4, add_gt_as_proposals=False)
    sampling = sampler.sample(ASSIGNMENT, PRIORS, TARGETS, scorer=Head())

    assert [2] == sampling.pos_inds.tolist()
    assert [3, 4] == sampling.neg_inds.tolist()
    assert [[7, 3, 7], None] == asked


def test_where_all_priors_fit_the_head_is_not_asked() -> None:
    sampling = OHEMSamplerConfig(num=100, pos_fraction=0.5).sample(ASSIGNMENT, PRIORS, TARGETS)

    assert [True, True, False, False, False] == sampling.pos_is_gt.tolist()
    assert 3 == sampling.num_neg


def test_a_dense_head_which_cannot_be_asked_is_told_so() -> None:
    sampler = OHEMSamplerConfig(num=3, pos_fraction=0.4, add_gt_as_proposals=False)
    with pytest.raises(TypeError, match="RoI heads"):
        sampler.sample(ASSIGNMENT, PRIORS, TARGETS)
