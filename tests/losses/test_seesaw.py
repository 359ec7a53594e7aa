"""Seesaw loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detcfg.config import ConfigError
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.losses.seesaw import SeesawLossConfig

LOGITS = torch.tensor([[2.0, 0.0, -1.0, 1.0, 0.0], [0.5, 0.2, 0.1, -1.0, 2.0], [0.0, 0.0, 3.0, 0.3, 0.1]])
LABELS = torch.tensor([0, 3, 1])  # of three classes; the second is background


def test_without_weights_it_is_cross_entropy_of_objects_and_of_objectness() -> None:
    losses = SeesawLossConfig(num_classes=3, p=0.0, q=0.0).build().named(LOGITS, LABELS)

    torch.testing.assert_close(
        F.cross_entropy(LOGITS[[0, 2], :3], LABELS[[0, 2]]), losses["loss_cls_classes"]
    )
    torch.testing.assert_close(
        F.cross_entropy(LOGITS[:, 3:], torch.tensor([0, 1, 0])), losses["loss_cls_objectness"]
    )


def test_a_rare_class_is_pushed_down_less_by_frequent_ones() -> None:
    loss = SeesawLossConfig(num_classes=3, p=0.5, q=0.0).build()
    loss.cum_samples.copy_(torch.tensor([100.0, 4.0, 0.0, 7.0]))

    weights = loss.seesaw_weights(torch.zeros(2, 3), torch.tensor([0, 1]))

    # Towards a class seen 100 times those seen 4 times and never; towards one seen 4 times.
    torch.testing.assert_close(torch.tensor([[1.0, 0.2, 0.1], [1.0, 1.0, 0.5]]), weights)


def test_a_class_that_is_taken_for_the_right_one_is_pushed_down_more() -> None:
    loss = SeesawLossConfig(num_classes=2, p=0.0, q=2.0).build()
    logits = torch.tensor([[0.6, 0.2], [0.001, 0.9]]).log()

    weights = loss.seesaw_weights(logits, torch.tensor([1, 0]))

    torch.testing.assert_close(torch.tensor([3.0, 1.0]), weights[0].pow(0.5))
    torch.testing.assert_close((0.9 / 0.901 / 0.01) ** 2, weights[1, 1].item())  # eps bounds it


def test_it_counts_the_samples_of_each_class_in_training_alone() -> None:
    loss = SeesawLossConfig(num_classes=3).build()
    loss(LOGITS, LABELS)
    loss(LOGITS, LABELS)
    loss.eval()
    loss(LOGITS, LABELS)

    assert [2, 2, 0, 2] == loss.cum_samples.tolist()


def test_parts_that_are_not_reduced_are_one_loss_a_prediction() -> None:
    loss = SeesawLossConfig(num_classes=3).build().eval()
    single = loss(LOGITS, LABELS, reduction_override="none")

    assert (3,) == single.shape
    torch.testing.assert_close(loss(LOGITS, LABELS, avg_factor=3.0), single.mean())


def test_a_batch_without_objects_has_no_loss_of_classes() -> None:
    losses = SeesawLossConfig(num_classes=3).build().named(LOGITS, torch.full((3,), 3))
    assert 0 == losses["loss_cls_classes"].item()


def test_scores_of_classes_and_background_sum_to_one() -> None:
    head = Shared2FCBBoxHeadConfig(
        num_classes=3, in_channels=4, roi_feat_size=7, loss_cls=SeesawLossConfig()
    ).build()

    scores = head.loss_cls.roi_probabilities(head(torch.randn(6, 4, 7, 7))[0])

    assert (6, 4) == scores.shape
    torch.testing.assert_close(torch.ones(6), scores.sum(dim=1))


def test_other_classes_than_the_heads_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"loss_cls\.num_classes is 5, but num_classes makes it 3"):
        Shared2FCBBoxHeadConfig(
            num_classes=3, in_channels=4, roi_feat_size=7, loss_cls=SeesawLossConfig(num_classes=5)
        ).resolved()
