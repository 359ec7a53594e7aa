"""Prime sample attention."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.heads.anchor_based.pisa_retina_head import PISARetinaHeadConfig
from detcfg.heads.anchor_based.retina_head import RetinaHeadConfig
from detcfg.heads.roi.pisa_roi_head import PISARoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.losses.pisa import CARLConfig, ISRConfig
from detcfg.structures import Detections
from tests.support.dense import STRIDES, batch, built, features, objects

TARGETS = [objects((10, 10, 60, 60), (90, 20, 150, 110)), objects((20, 30, 100, 90))]


@given(
    st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 1), st.integers(0, 2)), min_size=1, max_size=12),
    st.floats(0, 3),
    st.floats(0, 1),
)
def test_reweighting_keeps_the_total_loss(
    rows: list[tuple[float, float, int]], k: float, bias: float
) -> None:
    losses, ious, objects_ = (torch.tensor(column) for column in zip(*rows, strict=True))
    weights = ISRConfig(k=k, bias=bias).weights(losses, ious, objects_ // 2, objects_, torch.ones(len(rows)))

    torch.testing.assert_close(losses.sum(), (losses * weights).sum())


def test_the_best_positive_of_each_object_counts_most() -> None:
    """Two objects of one class, each with two positives: ranks 0 and 2, 1 and 3."""
    weights = ISRConfig(k=1.0).weights(
        torch.ones(5),
        torch.tensor([0.9, 0.8, 0.6, 0.5, 0.3]),
        torch.tensor([7, 7, 7, 7, 2]),
        torch.tensor([0, 0, 1, 1, 2]),
        torch.ones(5),
    )

    torch.testing.assert_close(torch.tensor([4.0, 2.0, 3.0, 1.0, 4.0]) * 5 / 14, weights)


def test_a_box_that_is_off_pulls_its_own_score_down() -> None:
    scores = torch.tensor([0.5, 0.5], requires_grad=True)
    box_losses = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.1, 0.1, 0.1, 0.1]])

    loss = CARLConfig().loss(scores, box_losses, avg_factor=2)
    loss.backward()

    torch.testing.assert_close(torch.tensor(2.2), loss.detach())  # equal scores weigh equally
    assert scores.grad is not None
    assert scores.grad[0] > 0 > scores.grad[1]


@pytest.mark.parametrize("decoded", [False, True])
def test_in_retinanet_the_class_loss_stays_and_without_power_both_box_losses_agree(decoded: bool) -> None:  # noqa: FBT001
    plain = built(RetinaHeadConfig(reg_decoded_bbox=decoded))
    prime = built(PISARetinaHeadConfig(reg_decoded_bbox=decoded, carl=CARLConfig(k=0.0)))
    prime.load_state_dict(plain.state_dict())

    losses, expected = (head.loss(features(), batch(), TARGETS) for head in (prime, plain))

    torch.testing.assert_close(expected["loss_cls"], losses["loss_cls"])
    torch.testing.assert_close(expected["loss_bbox"], losses["loss_bbox"])
    torch.testing.assert_close(expected["loss_bbox"], losses["loss_carl"])


def _roi_losses(config: StandardRoIHeadConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    head = evolve(config, num_classes=3, in_channels=32, in_strides=STRIDES).build()
    boxes = [torch.cat([t.boxes + shift for shift in (-5.0, 0.0, 3.0, 40.0)]) for t in TARGETS]
    proposals = [Detections(boxes=b, scores=b[:, 0], labels=b[:, 0].long()) for b in boxes]
    torch.manual_seed(0)
    return head.loss(features(), proposals, batch(), TARGETS)


def test_in_a_roi_head_too() -> None:
    sampler = RandomSamplerConfig(num=512, pos_fraction=0.25)
    losses = _roi_losses(PISARoIHeadConfig(sampler=sampler, carl=CARLConfig(k=0.0)))
    expected = _roi_losses(StandardRoIHeadConfig(sampler=sampler))

    assert {"loss_cls", "loss_bbox", "loss_carl"} == set(losses)
    torch.testing.assert_close(expected["loss_cls"], losses["loss_cls"])
    torch.testing.assert_close(expected["loss_bbox"], losses["loss_carl"])


def test_images_without_objects_have_losses_of_zero_with_gradients() -> None:
    head = built(PISARetinaHeadConfig())
    losses = head.loss(features(), batch(), [objects(), objects()])

    assert 0 == losses["loss_carl"].item()
    torch.stack(list(losses.values())).sum().backward()
