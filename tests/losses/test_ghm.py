"""Gradient harmonising: many alike count like few."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import tensor

from detcfg.losses.ghm import GHMCConfig, GHMRConfig


def test_each_bin_counts_the_same_however_many_elements_it_holds() -> None:
    loss = GHMCConfig(bins=2, reduction="none").build()
    # Three easy negatives in the lower bin, one hard one in the upper.
    pred = tensor([[-3.0], [-3.0], [-3.0], [3.0]])

    values = loss(pred, torch.full((4,), 1), torch.ones(4))

    entropy = F.binary_cross_entropy_with_logits(pred, torch.zeros(4, 1), reduction="none")
    # 4 elements over the bin's count, over 2 bins in use.
    torch.testing.assert_close(values, entropy * tensor([[4 / 3], [4 / 3], [4 / 3], [4]]) / 2)


def test_elements_without_weight_neither_count_nor_cost() -> None:
    loss = GHMCConfig(bins=5).build()
    pred = torch.randn(6, 2)
    labels = tensor([0, 1, 2, 2, 0, 1])

    some = loss(pred, labels, tensor([1.0, 1, 1, 0, 0, 0]))

    torch.testing.assert_close(some, loss(pred[:3], labels[:3], torch.ones(3)))


def test_counts_are_remembered_with_momentum_and_only_in_training() -> None:
    loss = GHMCConfig(bins=2, momentum=0.75).build()
    pred, labels, weight = tensor([[-3.0], [-3.0]]), torch.full((2,), 1), torch.ones(2)

    loss(pred, labels, weight)
    torch.testing.assert_close(loss.acc_sum, tensor([0.25 * 2, 0.0]))
    loss(pred, labels, weight)
    torch.testing.assert_close(loss.acc_sum, tensor([0.75 * 0.5 + 0.25 * 2, 0.0]))

    before = loss.acc_sum.clone()
    loss.eval()(pred, labels, weight)
    torch.testing.assert_close(loss.acc_sum, before)


def test_the_buffers_are_those_of_mmdetections_checkpoints() -> None:
    assert ["edges"] == list(GHMCConfig().build().state_dict())
    assert ["edges", "acc_sum"] == list(GHMRConfig(momentum=0.7).build().state_dict())


def test_the_regression_loss_of_one_bin_is_the_authentic_smooth_l1() -> None:
    loss = GHMRConfig(mu=0.02, bins=1).build()
    pred, target = torch.randn(5, 4), torch.randn(5, 4)

    error = pred - target
    expected = (torch.sqrt(error**2 + 0.02**2) - 0.02).mean()
    torch.testing.assert_close(loss(pred, target, torch.ones(5, 4)), expected)


def test_no_positive_is_no_loss() -> None:
    pred = torch.randn(3, 4, requires_grad=True)

    value = GHMRConfig(momentum=0.7).build()(pred, torch.zeros(3, 4), torch.zeros(3, 4))
    value.backward()

    assert value == 0
    torch.testing.assert_close(pred.grad, torch.zeros(3, 4))
