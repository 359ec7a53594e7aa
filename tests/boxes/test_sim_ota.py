"""SimOTA: which priors are cheapest for which object."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, tensor
from torch.testing import assert_close

from detcfg.boxes.assigners.sim_ota import SimOTAAssignerConfig, dynamic_k_matching, one_hot_entropy
from detcfg.structures import Targets

Y, X = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
PRIORS = torch.stack((X, Y, torch.ones(8, 8), torch.ones(8, 8)), dim=-1).reshape(-1, 4) * 8 + tensor(
    [4.0, 4.0, 0.0, 0.0]
)


def targets(*boxes: tuple[float, ...]) -> Targets:
    return Targets(boxes=tensor(boxes).reshape(-1, 4), labels=torch.arange(len(boxes)))


def test_the_cost_of_classes_is_their_binary_cross_entropy() -> None:
    scores, labels = torch.rand(6, 5), tensor([3, 0, 3])
    scores[0, 3] = 0.0

    for column, label in enumerate(labels):
        wanted = F.one_hot(label, 5).float().expand(6, -1)
        expected = F.binary_cross_entropy(scores, wanted, reduction="none").sum(1)
        assert_close(one_hot_entropy(scores, labels)[:, column], expected)


def test_an_object_takes_as_many_priors_as_the_sum_of_its_best_ious() -> None:
    overlaps = tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.1], [0.1, 0.3]])
    cost = tensor([[3.0, 9.0], [2.0, 8.0], [1.0, 7.0], [4.0, 6.0]])

    matched = dynamic_k_matching(cost, overlaps, topk=3)

    # The first object's best three IoUs sum to 2.4, the second's to 0.6, and each takes at least one.
    assert matched.tolist() == [[False, False], [True, False], [True, False], [False, True]]


def test_a_prior_that_two_objects_want_learns_the_cheaper() -> None:
    cost = tensor([[2.0, 1.0, 0.5], [5.0, 6.0, 9.0]])

    matched = dynamic_k_matching(cost, torch.full((2, 3), 0.1), topk=2)

    assert matched.tolist() == [[False, False, True], [False, False, False]]


def test_priors_near_the_centre_and_in_the_box_go_first() -> None:
    objects = targets((0.0, 0.0, 64.0, 64.0))
    bboxes = objects.boxes.expand(64, 4)  # every prior predicts the object perfectly
    scores = torch.full((64, 1), 0.5)

    found = SimOTAAssignerConfig(center_radius=1.5, candidate_topk=3).assign(PRIORS, bboxes, scores, objects)

    chosen = torch.nonzero(found.gt_indices == 0).squeeze(1)
    assert len(chosen) == 3
    assert ((PRIORS[chosen, :2] - 32).abs() < 12).all()
    assert_close(found.max_overlaps[chosen], torch.ones(3))


def brute_force(bboxes: Tensor, scores: Tensor, objects: Targets) -> Tensor:
    """The assigner's rule, prior by prior and object by object, for objects that hold all priors."""
    from detcfg.boxes.iou import bbox_overlaps

    overlaps = bbox_overlaps(bboxes, objects.boxes)
    cost = torch.empty(len(bboxes), len(objects))
    for prior in range(len(bboxes)):
        for index, label in enumerate(objects.labels.tolist()):
            entropy = F.binary_cross_entropy(
                scores[prior], F.one_hot(tensor(label), scores.shape[1]).float(), reduction="sum"
            )
            cost[prior, index] = entropy - 3 * (overlaps[prior, index] + 1e-7).log()
    wanted: list[set[int]] = [set() for _ in bboxes]
    for index in range(len(objects)):
        count = max(int(overlaps[:, index].topk(10).values.sum()), 1)
        for prior in cost[:, index].argsort()[:count].tolist():
            wanted[prior].add(index)
    return tensor(
        [-1 if not w else (w.pop() if len(w) == 1 else int(cost[i].argmin())) for i, w in enumerate(wanted)]
    )


def test_the_assignment_is_that_of_the_rule_spelt_out() -> None:
    generator = torch.Generator().manual_seed(0)
    objects = targets((-1.0, -1.0, 65.0, 65.0), (-2.0, -3.0, 70.0, 80.0), (-9.0, -9.0, 66.0, 70.0))
    bboxes = objects.boxes[torch.randint(3, (64,), generator=generator)]
    bboxes = bboxes + 20 * torch.randn(64, 4, generator=generator)
    scores = torch.rand(64, 3, generator=generator)

    found = SimOTAAssignerConfig(center_radius=20).assign(PRIORS, bboxes, scores, objects)

    assert found.gt_indices.tolist() == brute_force(bboxes, scores, objects).tolist()


def test_without_objects_all_priors_are_background() -> None:
    found = SimOTAAssignerConfig().assign(PRIORS, torch.rand(64, 4), torch.rand(64, 3), targets())

    assert (found.gt_indices == -1).all()
