"""Cross-entropy whose background is what no class claims."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve

from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.losses.cross_entropy_custom import CrossEntropyCustomLossConfig

SIGMOID = CrossEntropyCustomLossConfig(use_sigmoid=True)
LOGITS = torch.tensor([[-2.0, -1.0, -3.0], [1.0, 2.0, 0.0]])


def test_a_roi_head_has_a_logit_for_each_class_and_none_for_background() -> None:
    head = Shared2FCBBoxHeadConfig(num_classes=3, in_channels=4, roi_feat_size=7, loss_cls=SIGMOID)
    assert head.build().fc_cls.weight.shape[0] == 3
    softmax = evolve(head, loss_cls=CrossEntropyCustomLossConfig())
    assert softmax.build().fc_cls.weight.shape[0] == 4


def test_background_has_what_the_classes_leave_and_never_less_than_nothing() -> None:
    scores = SIGMOID.build().scores(LOGITS)
    torch.testing.assert_close(scores[:, :3], LOGITS.sigmoid())
    assert float(scores[0, 3]) == pytest.approx(1 - float(LOGITS[0].sigmoid().sum()))
    assert float(scores[1, 3]) == 0


def test_each_class_learns_by_itself_and_a_label_beyond_them_is_background() -> None:
    loss = SIGMOID.build()(LOGITS, torch.tensor([1, 3]), avg_factor=2)
    p = LOGITS.sigmoid()
    summed = -p[0, 1].log() - (1 - p[0, [0, 2]]).log().sum() - (1 - p[1]).log().sum()
    torch.testing.assert_close(loss, summed / 2, rtol=1e-5, atol=0)


def test_by_softmax_it_is_the_plain_cross_entropy() -> None:
    loss = CrossEntropyCustomLossConfig().build()
    torch.testing.assert_close(loss.scores(LOGITS), LOGITS.softmax(dim=1))
    torch.testing.assert_close(loss.roi_probabilities(LOGITS), LOGITS.softmax(dim=1))
