"""RetinaNet's head, and what it has from the base of anchor heads."""

from __future__ import annotations

import torch
from attrs import evolve
from torch.testing import assert_close

from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.heads.anchor_based.retina_head import RetinaHeadConfig
from detcfg.heads.dense.base import DenseHead
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.structures import Targets
from tests.support.dense import batch, built, features, objects


def test_background_has_a_logit_exactly_with_softmax() -> None:
    sigmoid = built(RetinaHeadConfig())
    softmax = built(RetinaHeadConfig(loss_cls=CrossEntropyLossConfig()))

    assert sigmoid(features())[0][0].shape[1] == 9 * 3
    assert softmax(features())[0][0].shape[1] == 9 * 4


def test_it_starts_with_one_object_in_a_hundred_anchors() -> None:
    scores = torch.cat([level.flatten() for level in built(RetinaHeadConfig())(features())[0]]).sigmoid()

    assert_close(scores.mean(), torch.tensor(0.01), rtol=0.2, atol=0)


def test_anchors_on_an_ignored_object_learn_nothing_if_the_assigner_says_so() -> None:
    box, other = (20.0, 30.0, 100.0, 90.0), (120.0, 40.0, 180.0, 120.0)
    two = evolve(objects(box, other), ignored=torch.tensor([False, True]))
    assigner = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4)
    strict = built(RetinaHeadConfig(assigner=assigner))
    lenient = built(RetinaHeadConfig(assigner=evolve(assigner, ignore_iof_thr=0.5)))

    def loss(head: DenseHead, targets: Targets) -> float:
        return head.loss(features(1), batch(1), [targets])["loss_cls"].item()

    assert loss(strict, two) == loss(strict, objects(box))
    assert loss(lenient, two) < loss(strict, two)


def test_anchors_beyond_their_image_have_no_weight() -> None:
    images = evolve(batch(2), sizes=((128, 192), (64, 96)), padded_sizes=((128, 192), (64, 96)))
    head = built(RetinaHeadConfig())
    maps, anchors = head(features())[0], head.priors(head(features())[0])

    found = head.get_targets(anchors, maps, images, [objects(), objects()])

    weights = found.label_weights.sum(1)
    assert weights[0] == sum(len(level) for level in anchors)
    assert weights[1] == 9 * (8 * 12 + 4 * 6 + 2 * 3 + 1 * 2 + 1 * 1)
