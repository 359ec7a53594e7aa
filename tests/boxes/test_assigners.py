"""Assigners: their rules spelt out object by object, and what holds of every assignment."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detcfg import load_experiment
from detcfg.boxes.assigners.approx_max_iou import ApproxMaxIoUAssignerConfig
from detcfg.boxes.assigners.atss import ATSSAssignerConfig
from detcfg.boxes.assigners.base import IGNORED, NEGATIVE, Assignment
from detcfg.boxes.assigners.center_region import CenterRegionAssignerConfig, scaled
from detcfg.boxes.assigners.dynamic_soft_label import DynamicSoftLabelAssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.assigners.point import PointAssignerConfig
from detcfg.boxes.assigners.sim_ota import SimOTAAssignerConfig
from detcfg.boxes.assigners.task_aligned import TaskAlignedAssignerConfig
from detcfg.boxes.assigners.uniform import UniformAssignerConfig
from detcfg.boxes.iou import bbox_overlaps
from detcfg.config import ConfigError
from detcfg.config.override import override
from detcfg.structures import Targets
from tests.support.worlds import CLASSES, SEEDS, boxes, generator, objects, renamed, reordered

LEVELS = (24, 12)
COUNT = sum(LEVELS)
MAX_IOU = MaxIoUAssignerConfig(pos_iou_thr=0.4, neg_iou_thr=0.3, min_pos_iou=0.1)
CENTER_REGION = CenterRegionAssignerConfig(pos_scale=0.3, neg_scale=0.6)
NUMBERS = st.integers(0, 6)
Assign = Callable[[Targets, torch.Generator], Assignment]


def predictions(draw: torch.Generator, boxes: Tensor) -> Tensor:
    """Boxes near the given ones."""
    return boxes + 3 * torch.randn(len(boxes), 4, generator=draw)


def max_iou(targets: Targets, draw: torch.Generator) -> Assignment:
    return evolve(MAX_IOU, match_low_quality=False).assign(boxes(COUNT, draw), targets)


def approx_max_iou(targets: Targets, draw: torch.Generator) -> Assignment:
    squares, shapes = boxes(COUNT, draw), boxes(3 * COUNT, draw).view(COUNT, 3, 4)
    config = ApproxMaxIoUAssignerConfig(pos_iou_thr=0.4, neg_iou_thr=0.3, match_low_quality=False)
    return config.assign_approxes(squares, shapes, targets)


def atss(targets: Targets, draw: torch.Generator) -> Assignment:
    return ATSSAssignerConfig(topk=4).assign(boxes(COUNT, draw), LEVELS, targets)


def task_aligned(targets: Targets, draw: torch.Generator) -> Assignment:
    priors, scores = boxes(COUNT, draw), torch.rand(COUNT, CLASSES, generator=draw)
    return TaskAlignedAssignerConfig(topk=5).assign(priors, predictions(draw, priors), scores, targets)


def point(targets: Targets, draw: torch.Generator) -> Assignment:
    points = 100 * torch.rand(COUNT, 2, generator=draw)
    strides = torch.tensor([4.0] * LEVELS[0] + [8.0] * LEVELS[1])
    return PointAssignerConfig().assign(points, strides, targets)


def center_region(targets: Targets, draw: torch.Generator) -> Assignment:
    return CENTER_REGION.assign(boxes(COUNT, draw), targets)


def uniform(targets: Targets, draw: torch.Generator) -> Assignment:
    priors = boxes(COUNT, draw)
    config = UniformAssignerConfig(pos_ignore_thr=0.1, neg_ignore_thr=0.7, match_times=2)
    return config.assign(priors, predictions(draw, priors), targets)


def sim_ota(targets: Targets, draw: torch.Generator) -> Assignment:
    priors = torch.cat([100 * torch.rand(COUNT, 2, generator=draw), torch.full((COUNT, 2), 8.0)], dim=1)
    return SimOTAAssignerConfig().assign(
        priors, boxes(COUNT, draw), torch.rand(COUNT, CLASSES, generator=draw), targets
    )


def soft_label(targets: Targets, draw: torch.Generator) -> Assignment:
    priors = torch.cat([100 * torch.rand(COUNT, 2, generator=draw), torch.full((COUNT, 2), 8.0)], dim=1)
    logits = torch.randn(COUNT, CLASSES, generator=draw)
    return DynamicSoftLabelAssignerConfig().assign(priors, boxes(COUNT, draw), logits, targets)


ALL: tuple[Assign, ...] = (
    *(max_iou, approx_max_iou, atss, task_aligned, point, center_region, uniform, sim_ota, soft_label),
)
WITHOUT_TIES: tuple[Assign, ...] = (max_iou, approx_max_iou, atss, task_aligned, point, center_region)
"""Whose objects may come in any order."""


@pytest.mark.parametrize("assign", ALL)
@given(seed=SEEDS, count=NUMBERS, ignored=st.integers(0, 2))
def test_every_prior_learns_one_of_the_objects_or_background_or_nothing(
    assign: Assign, seed: int, count: int, ignored: int
) -> None:
    draw = generator(seed)

    found = assign(objects(count, draw, ignored), draw)

    assert found.gt_indices.dtype == torch.int64
    assert found.gt_indices.shape == found.max_overlaps.shape == (COUNT,)
    assert ((found.gt_indices >= IGNORED) & (found.gt_indices < count)).all()
    if count == 0 and ignored == 0:
        assert (found.gt_indices == NEGATIVE).all()


@pytest.mark.parametrize("assign", WITHOUT_TIES)
@given(seed=SEEDS, count=NUMBERS, data=st.data())
def test_the_order_of_the_objects_does_not_matter(
    assign: Assign, seed: int, count: int, data: st.DataObject
) -> None:
    targets = objects(count, generator(seed))
    order = torch.tensor(data.draw(st.permutations(range(count))), dtype=torch.long)

    once = assign(targets, generator(seed + 1))
    again = assign(reordered(targets, order), generator(seed + 1))

    assert renamed(again, order).equal(once.gt_indices)


@given(seed=SEEDS, count=NUMBERS, data=st.data())
def test_the_order_of_the_priors_does_not_matter(seed: int, count: int, data: st.DataObject) -> None:
    draw = generator(seed)
    targets, priors, scores = (
        objects(count, draw),
        boxes(COUNT, draw),
        torch.rand(COUNT, CLASSES, generator=draw),
    )
    near = predictions(draw, priors)
    order = torch.tensor(data.draw(st.permutations(range(COUNT))))
    aligned = TaskAlignedAssignerConfig(topk=5)
    for once, again in (
        (MAX_IOU.assign(priors, targets), MAX_IOU.assign(priors[order], targets)),
        (CENTER_REGION.assign(priors, targets), CENTER_REGION.assign(priors[order], targets)),
        (aligned.assign(priors, near, scores, targets), aligned.assign(priors[order], near[order], scores[order], targets)),
    ):  # fmt: skip
        assert again.gt_indices.equal(once.gt_indices[order])


@given(
    seed=SEEDS,
    count=st.integers(1, 6),
    ignored=st.integers(0, 2),
    match_low_quality=st.booleans(),
    low=st.sampled_from([0.0, 0.1]),
    min_pos_iou=st.sampled_from([0.0, 0.2]),
)
def test_max_iou_is_its_rule_spelt_out(
    *, seed: int, count: int, ignored: int, match_low_quality: bool, low: float, min_pos_iou: float
) -> None:
    draw = generator(seed)
    targets, priors = objects(count, draw, ignored), boxes(20, draw)
    config = MaxIoUAssignerConfig(
        pos_iou_thr=0.4,
        neg_iou_thr=(low, 0.3),
        min_pos_iou=min_pos_iou,
        match_low_quality=match_low_quality,
        ignore_iof_thr=0.5,
    )
    overlaps = bbox_overlaps(priors, targets.not_ignored.boxes)
    if ignored:
        covered = bbox_overlaps(priors, targets.ignored_boxes, mode="iof").amax(1) > 0.5
        overlaps[covered] = -1
    wanted: list[int] = []
    for row in overlaps.tolist():
        best = max(row)
        wanted.append(row.index(best) if best >= 0.4 else NEGATIVE if low <= best < 0.3 else IGNORED)
    for index, column in enumerate(overlaps.T.tolist()):
        best = max(column)
        if match_low_quality and best >= min_pos_iou:
            wanted = [index if value == best else old for value, old in zip(column, wanted, strict=True)]

    found = config.assign(priors, targets)

    assert found.gt_indices.tolist() == wanted
    if ignored:
        assert (found.gt_indices[covered] == IGNORED).all()


@given(seed=SEEDS, count=st.integers(1, 6), topk=st.integers(1, 30))
def test_atss_is_its_rule_spelt_out(seed: int, count: int, topk: int) -> None:
    draw = generator(seed)
    targets, priors = objects(count, draw), boxes(COUNT, draw)
    overlaps = bbox_overlaps(priors, targets.boxes)
    middles = (priors[:, :2] + priors[:, 2:]) / 2
    best = torch.full((COUNT,), -1.0)
    wanted = torch.full((COUNT,), NEGATIVE)
    for index, box in enumerate(targets.boxes):
        distance = (middles - (box[:2] + box[2:]) / 2).norm(dim=1)
        candidates: list[int] = []
        for start, length in ((0, LEVELS[0]), LEVELS):
            nearest = distance[start : start + length].argsort()[:topk] + start
            candidates += nearest.tolist()
        chosen = overlaps[candidates, index]
        threshold = chosen.mean() + chosen.std()
        for prior in candidates:
            x, y = middles[prior].tolist()
            within = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if within and overlaps[prior, index] >= threshold and overlaps[prior, index] > best[prior]:
                best[prior], wanted[prior] = overlaps[prior, index], index

    assert ATSSAssignerConfig(topk=topk).assign(priors, LEVELS, targets).gt_indices.equal(wanted)


@given(seed=SEEDS, count=st.integers(1, 6))
def test_task_alignment_takes_the_best_of_each_object_inside_it(seed: int, count: int) -> None:
    draw = generator(seed)
    targets, priors = objects(count, draw), boxes(COUNT, draw)
    scores, near = torch.rand(COUNT, CLASSES, generator=draw), predictions(draw, priors)
    overlaps = bbox_overlaps(near, targets.boxes)
    alignment = scores[:, targets.labels] * overlaps**6

    found = TaskAlignedAssignerConfig(topk=3).assign(priors, near, scores, targets)

    positive = torch.nonzero(found.gt_indices >= 0).flatten()
    for prior in positive.tolist():
        index = int(found.gt_indices[prior])
        assert (alignment[:, index] > alignment[prior, index]).sum() < 3
        assert found.assign_metrics[prior] == alignment[prior, index] > 0
        x, y = ((priors[prior, :2] + priors[prior, 2:]) / 2).tolist()
        x1, y1, x2, y2 = targets.boxes[index].tolist()
        assert x1 < x < x2
        assert y1 < y < y2
    assert (found.assign_metrics[found.gt_indices < 0] == 0).all()


@given(seed=SEEDS, count=NUMBERS, ignored=st.integers(0, 2))
def test_the_core_of_the_smallest_object_is_learnt_and_that_of_an_ignored_one_never(
    seed: int, count: int, ignored: int
) -> None:
    draw = generator(seed)
    targets, priors = objects(count, draw, ignored), boxes(COUNT, draw)

    found = evolve(CENTER_REGION, foreground_dominate=True).assign(priors, targets)

    middles = (priors[:, :2] + priors[:, 2:]) / 2
    cores = scaled(targets.not_ignored.boxes, 0.3)
    in_core = bbox_overlaps(priors, cores, mode="iof") > 0.01
    within = (middles[:, None] > targets.not_ignored.boxes[:, :2]) & (
        middles[:, None] < targets.not_ignored.boxes[:, 2:]
    )
    candidates = in_core & within.all(-1)
    areas = (targets.not_ignored.boxes[:, 2:] - targets.not_ignored.boxes[:, :2]).prod(1)
    spared = scaled(targets.ignored_boxes, 0.5)
    covered = ((middles[:, None] > spared[:, :2]) & (middles[:, None] < spared[:, 2:])).all(-1).any(-1)
    for prior, index in enumerate(found.gt_indices.tolist()):
        if covered[prior]:
            assert index == IGNORED
        elif candidates[prior].any():
            assert index == int(areas.where(candidates[prior], torch.inf).argmin())
        else:
            assert index == NEGATIVE


@given(seed=SEEDS, count=st.integers(1, 6))
def test_a_point_learns_the_nearest_object_of_its_level_that_wants_it(seed: int, count: int) -> None:
    draw = generator(seed)
    targets, points = objects(count, draw), 100 * torch.rand(COUNT, 2, generator=draw)
    levels = torch.tensor([2] * LEVELS[0] + [3] * LEVELS[1])
    nearest: dict[int, tuple[float, int]] = {}
    for index, box in enumerate(targets.boxes):
        size = box[2:] - box[:2]
        level = int((torch.log2(size / 4).sum() / 2).int().clamp(2, 3))
        distance = ((points - (box[:2] + box[2:]) / 2) / size).norm(dim=1).where(levels == level, torch.inf)
        for prior in distance.argsort()[:3].tolist():
            nearest[prior] = min(nearest.get(prior, (torch.inf, -1)), (float(distance[prior]), index))

    found = PointAssignerConfig().assign(points, 2.0**levels, targets)

    assert found.gt_indices.tolist() == [nearest[i][1] if i in nearest else NEGATIVE for i in range(COUNT)]


@given(seed=SEEDS, count=st.integers(0, 6), ignored=st.integers(0, 2))
def test_of_one_shape_an_approximation_is_that_shape(seed: int, count: int, ignored: int) -> None:
    draw = generator(seed)
    targets, priors = objects(count, draw, ignored), boxes(COUNT, draw)
    config = ApproxMaxIoUAssignerConfig(pos_iou_thr=0.4, neg_iou_thr=0.3, ignore_iof_thr=0.5)

    found = config.assign_approxes(priors, priors[:, None], targets)
    more = config.assign_approxes(priors, priors[:, None].expand(-1, 4, -1), targets)

    assert found.gt_indices.equal(config.assign(priors, targets).gt_indices)
    assert found.gt_indices.equal(more.gt_indices)


@given(seed=SEEDS, count=st.integers(1, 6))
def test_optimal_transport_gives_objects_no_more_priors_than_their_overlaps_sum_to(
    seed: int, count: int
) -> None:
    draw = generator(seed)
    targets = objects(count, draw)
    priors = torch.cat([100 * torch.rand(COUNT, 2, generator=draw), torch.full((COUNT, 2), 8.0)], dim=1)
    near, scores = boxes(COUNT, draw), torch.rand(COUNT, CLASSES, generator=draw)

    found = SimOTAAssignerConfig(candidate_topk=5).assign(priors, near, scores, targets)

    overlaps = bbox_overlaps(near, targets.boxes)
    most = overlaps.topk(5, dim=0).values.sum(0).int().clamp(min=1)
    # One more for each prior that several wanted, which goes to whom it is cheapest for.
    counts = torch.bincount(found.gt_indices[found.gt_indices >= 0], minlength=count)
    assert counts.sum() <= most.sum()
    learnt = torch.nonzero(found.gt_indices >= 0).flatten()
    assert found.max_overlaps[learnt].equal(overlaps[learnt, found.gt_indices[learnt]])


@pytest.mark.parametrize("neg_iou_thr", [0.6, (0.1, 0.6)])
def test_a_prior_cannot_be_negative_above_the_threshold_of_positives(
    neg_iou_thr: float | tuple[float, float],
) -> None:
    with pytest.raises(ConfigError, match=r"neg_iou_thr is .*, above pos_iou_thr, 0\.5"):
        MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=neg_iou_thr).resolved()


def test_a_head_without_predictions_to_give_refuses_an_assigner_that_asks_for_them() -> None:
    with pytest.raises(ConfigError, match=r"bbox_head: assigner goes by predictions, too .*alpha=0\.8"):
        override(load_experiment("atss"), "model.bbox_head.assigner.alpha=0.8").resolved()
