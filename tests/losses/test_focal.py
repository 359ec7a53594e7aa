"""Focal loss and its kin: quality focal, distribution focal, varifocal, Gaussian focal."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, tensor

from detcfg.config import ConfigError
from detcfg.losses.distribution_focal import DistributionFocalLossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.gaussian_focal import GaussianFocalLossConfig
from detcfg.losses.quality_focal import QualityFocalLossConfig
from detcfg.losses.varifocal import VarifocalLossConfig


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_focal_loss_is_its_equation() -> None:
    loss = FocalLossConfig(gamma=2, alpha=0.25, reduction="none").build()
    pred = tensor([[logit(0.9), logit(0.2)]])

    values = loss(pred, tensor([0]))

    positive = -0.25 * (1 - 0.9) ** 2 * math.log(0.9)
    negative = -0.75 * 0.2**2 * math.log(1 - 0.2)
    torch.testing.assert_close(values, tensor([[positive, negative]]))


def test_focal_loss_without_focus_is_half_the_cross_entropy() -> None:
    loss = FocalLossConfig(gamma=0, alpha=0.5).build()
    pred, target = torch.randn(5, 3), torch.rand(5, 3).round()

    torch.testing.assert_close(loss(pred, target), F.binary_cross_entropy_with_logits(pred, target) / 2)


def test_labels_and_their_one_hot_rows_are_the_same_target() -> None:
    loss = FocalLossConfig().build()
    pred = torch.randn(4, 3)
    labels = tensor([0, 2, 3, 1])  # 3 is background
    rows = tensor([[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]])

    torch.testing.assert_close(loss(pred, labels), loss(pred, rows))


def test_a_weight_counts_for_all_classes_of_its_row() -> None:
    loss = FocalLossConfig(loss_weight=2.0).build()
    pred, labels = torch.randn(3, 4), tensor([0, 1, 4])

    rows = FocalLossConfig(reduction="none").build()(pred, labels)
    weighted = loss(pred, labels, tensor([1.0, 0.0, 0.5]), avg_factor=7.0)

    torch.testing.assert_close(weighted, 2 * (rows[0].sum() + 0.5 * rows[2].sum()) / 7)


def test_activated_predictions_are_probabilities() -> None:
    pred, labels = torch.randn(6, 4), torch.arange(6).clamp(max=4)

    torch.testing.assert_close(
        FocalLossConfig(activated=True).build()(pred.sigmoid(), labels),
        FocalLossConfig().build()(pred, labels),
    )


def test_the_focal_loss_is_sigmoid_only() -> None:
    with pytest.raises(ConfigError, match="use_sigmoid must be one of True"):
        FocalLossConfig(use_sigmoid=False).build()  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_quality_focal_loss_is_its_equation() -> None:
    loss = QualityFocalLossConfig(beta=2, reduction="none").build()
    pred = tensor([[logit(0.6), logit(0.3)]])

    value = loss(pred, (tensor([0]), tensor([0.8])))

    towards = (0.8 - 0.6) ** 2 * -(0.8 * math.log(0.6) + 0.2 * math.log(0.4))
    away = 0.3**2 * -math.log(0.7)
    torch.testing.assert_close(value, tensor([towards + away]))


def test_a_quality_reached_costs_no_gradient() -> None:
    loss = QualityFocalLossConfig().build()
    pred = tensor([[logit(0.7)]], requires_grad=True)

    loss(pred, tensor([[0.7]])).backward()

    torch.testing.assert_close(pred.grad, torch.zeros(1, 1), atol=1e-6, rtol=0)


def test_background_has_no_quality() -> None:
    loss = QualityFocalLossConfig().build()
    pred = torch.randn(3, 2)

    with_labels = loss(pred, (tensor([0, 2, 1]), tensor([0.5, 0.9, 1.0])))  # 2 is background

    torch.testing.assert_close(with_labels, loss(pred, tensor([[0.5, 0], [0, 0], [0, 1.0]])))


@given(st.floats(0, 14.99))
def test_a_distribution_at_the_target_is_best(target: float) -> None:
    loss = DistributionFocalLossConfig().build()
    left = int(target)
    share = torch.zeros(16).index_add(0, tensor([left, left + 1]), tensor([left + 1 - target, target - left]))
    best = share.clamp(min=1e-9).log()[None]

    assert loss(best, tensor([target])) <= loss(torch.zeros(1, 16), tensor([target]))


def test_distribution_focal_loss_is_its_equation() -> None:
    loss = DistributionFocalLossConfig(reduction="none").build()
    pred = tensor([[0.1, 0.6, 0.3]]).log()

    value = loss(pred, tensor([1.25]))

    torch.testing.assert_close(value, tensor([-(0.75 * math.log(0.6) + 0.25 * math.log(0.3))]))


@pytest.mark.parametrize(("iou_weighted", "gain"), [(True, 0.8), (False, 1.0)])
def test_varifocal_loss_is_its_equation(iou_weighted: bool, gain: float) -> None:  # noqa: FBT001
    loss = VarifocalLossConfig(alpha=0.75, gamma=2, iou_weighted=iou_weighted, reduction="none").build()
    pred = tensor([[logit(0.6), logit(0.3)]])

    values = loss(pred, tensor([[0.8, 0.0]]))

    positive = gain * -(0.8 * math.log(0.6) + 0.2 * math.log(0.4))
    negative = 0.75 * 0.3**2 * -math.log(0.7)
    torch.testing.assert_close(values, tensor([[positive, negative]]))


def test_gaussian_focal_loss_is_its_equation() -> None:
    loss = GaussianFocalLossConfig(
        alpha=2, gamma=4, pos_weight=0.25, neg_weight=0.75, reduction="none"
    ).build()

    values = loss(tensor([0.8, 0.4]), tensor([1.0, 0.5]))

    peak = 0.25 * -math.log(0.8) * 0.2**2
    slope = 0.75 * -math.log(0.6) * 0.4**2 * 0.5**4
    torch.testing.assert_close(values, tensor([peak, slope]))


def test_named_places_are_peaks() -> None:
    loss = GaussianFocalLossConfig().build()
    pred = torch.rand(4, 3)
    target = torch.rand(4, 3) * 0.9
    peaks = target.clone()
    peaks[2, 1] = 1

    at_indices = loss.at_indices(pred, peaks, tensor([2]), tensor([1]), avg_factor=3.0)

    torch.testing.assert_close(at_indices, loss(pred, peaks, avg_factor=3.0))


@given(st.integers(0, 2**31))
def test_losses_are_finite_and_not_negative_even_for_extreme_logits(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randn(6, 3, generator=generator) * 100
    target = torch.rand(6, 3, generator=generator)
    configs = (FocalLossConfig(), QualityFocalLossConfig(), VarifocalLossConfig())

    for config in configs:
        value: Tensor = config.build()(pred, target)
        assert value.isfinite(), config
        assert value >= 0, config
