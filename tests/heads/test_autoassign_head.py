"""AutoAssign's head: priors of centres, and the losses of points that learn or not."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from detcfg.heads.anchor_free.autoassign_head import CenterPrior, negative_weights, positive_loss
from tests.support.dense import objects

BOX = (20.0, 20.0, 60.0, 60.0)
POINTS = torch.tensor([[40.0, 40.0], [48.0, 40.0], [100.0, 100.0]])
STRIDES = torch.full((3,), 8.0)


def test_the_prior_is_a_normal_distribution_in_strides_around_the_centre() -> None:
    prior = CenterPrior(3)
    with torch.no_grad():
        prior.sigma[0] = torch.tensor([2.0, 1.0])
    thrice = objects(BOX)[torch.zeros(3, dtype=torch.long)]

    found = prior(POINTS, STRIDES, thrice)

    assert_close(found[:2], torch.exp(torch.tensor([0.0, -1 / 8])))


def test_objects_around_no_point_take_the_points_near_them_if_forced() -> None:
    tiny = objects((98.0, 90.0, 99.0, 91.0))

    assert len(CenterPrior(3).pairs(POINTS, STRIDES, tiny)[0]) == 0
    gt_inds, point = CenterPrior(3, force_topk=True, topk=1).pairs(POINTS, STRIDES, tiny)
    assert gt_inds.tolist() == [0]
    assert point.tolist() == [2]


def test_one_sure_point_is_enough_for_its_object() -> None:
    sure = positive_loss(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.01]), torch.tensor([0, 0]), 1)
    unsure = positive_loss(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.01]), torch.tensor([0, 0]), 1)

    assert sure < 0.01
    assert_close(unsure, torch.log(torch.tensor(2.0)))


def test_the_best_fitting_point_of_an_object_is_no_negative_of_its_class() -> None:
    boxes = torch.tensor([BOX, (20.0, 20.0, 60.0, 40.0), (90.0, 90.0, 99.0, 99.0)])

    weights = negative_weights(boxes, objects(BOX), torch.tensor([0, 0]), torch.tensor([0, 1]), 3)

    assert_close(weights[:, 0], torch.tensor([0.0, 1.0, 1.0]))
    assert_close(weights[:, 1:], torch.ones(3, 2))
