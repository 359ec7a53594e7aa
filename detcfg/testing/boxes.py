"""The contracts of box coders, assigners, samplers and anchor generators."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.boxes.assigners.base import IGNORED, NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.boxes.geometry import centres
from detcfg.boxes.samplers.base import PriorPredictions, PriorScorer, SamplerConfig
from detcfg.structures import Targets
from detcfg.testing.expect import SIZE, boxes_at_random, expect, expect_tensor, targets_at_random


def check_coder(config: BBoxCoderConfig) -> None:
    for count in (7, 0):
        priors = boxes_at_random(count)
        boxes = priors + torch.rand(count, 4) * 4 - 2
        if isinstance(config, DistancePointBBoxCoderConfig):  # whose priors are points
            priors = centres(priors)
        code = config.encode(priors, boxes)
        expect_tensor(config, "encode(priors, boxes)", code, (count, config.encode_size), torch.float32)
        back = config.decode(priors, code)
        expect_tensor(config, "decode(priors, deltas)", back, (count, 4), torch.float32)
        close = torch.allclose(back, boxes, atol=0.05)
        expect(config, "decode(priors, encode(priors, boxes)) has to give the boxes back", holds=close)
        order = torch.randperm(count)
        same = torch.allclose(config.decode(priors[order], code[order]), back[order], atol=1e-4)
        expect(config, "decode has to give priors in another order their boxes in that order", holds=same)
        pred = code.detach().clone().requires_grad_()
        boxes = config.decode(priors, pred, max_shape=SIZE)
        expect(config, "decode has to pass a gradient to the deltas", holds=boxes.requires_grad)
        (gradient,) = torch.autograd.grad(boxes.sum(), pred)
        expect(config, "the gradient of decode has to be finite", holds=bool(gradient.isfinite().all()))


def check_assigner(
    config: AssignerConfig, assign: Callable[[Tensor, Targets], Assignment] | None = None
) -> None:
    """An assigner that goes by more than boxes is held through `assign`, which calls it for priors and objects."""
    if assign is None and not config.assigns_anchors:
        raise TypeError(
            f"{type(config).__name__} has no assign_anchors: it goes by more than boxes, as the head that calls it knows. "
            "Give check_component assign=, a function of priors (A, 4) and targets that calls it as the head does."
        )

    def by_anchors(priors: Tensor, targets: Targets) -> Assignment:
        return config.assign_anchors(priors, targets, (len(priors),))

    assign = assign or by_anchors
    for priors_count, count in ((60, 5), (60, 0), (0, 5), (0, 0)):
        priors, targets = boxes_at_random(priors_count), targets_at_random(count)
        if min(priors_count, count):
            priors[:count] = targets.boxes + torch.rand(count, 4)
        found = assign(priors, targets)
        name = f"of {priors_count} priors and {count} objects "
        expect_tensor(config, f"{name}gt_indices", found.gt_indices, (priors_count,), torch.int64)
        expect_tensor(config, f"{name}max_overlaps", found.max_overlaps, (priors_count,), torch.float32)
        within = (found.gt_indices >= IGNORED) & (found.gt_indices < len(targets.not_ignored))
        expect(
            config,
            f"{name}gt_indices has to count the objects that are not ignored, or be NEGATIVE or IGNORED",
            holds=bool(within.all()),
        )
        order = torch.randperm(priors_count)
        again = assign(priors[order], targets)
        expect(
            config,
            f"{name}priors in another order have to get what they got before",
            holds=again.gt_indices.equal(found.gt_indices[order]),
        )


class _Scorer(PriorScorer):
    """A head that scores by the prior's place."""

    def sample_losses(self, priors: Tensor, labels: Tensor | None) -> Tensor:
        del labels
        return priors[:, 0]

    def predict(self, priors: Tensor) -> PriorPredictions:
        return PriorPredictions(
            scores=priors[:, 0] / SIZE[1], boxes=priors.clone(), background_losses=priors[:, 0]
        )


def check_sampler(config: SamplerConfig) -> None:
    scorer = _Scorer() if config.needs_scorer else None
    for priors_count, count in ((60, 5), (60, 0), (0, 5), (0, 0)):
        priors, targets = boxes_at_random(priors_count), targets_at_random(count)
        objects = targets.not_ignored
        choices = torch.randint(IGNORED, len(objects), (priors_count,))
        assignment = Assignment(gt_indices=choices, max_overlaps=torch.rand(priors_count))
        found = config.sample(assignment, priors, targets, scorer=scorer)
        added = len(objects) if config.adds_objects else 0
        all_priors, assigned = (
            torch.cat([objects.boxes[:added], priors]),
            torch.cat([torch.arange(added), choices]),
        )
        name = f"of {priors_count} priors and {count} objects "
        for kind, indices in (("pos_inds", found.pos_inds), ("neg_inds", found.neg_inds)):
            expect_tensor(config, name + kind, indices, (len(indices),), torch.int64)
            expect(config, f"{name}{kind} has to rise", holds=bool((indices.diff() > 0).all()))
        right = (assigned[found.pos_inds] >= 0).all() and (assigned[found.neg_inds] == NEGATIVE).all()
        expect(
            config, f"{name}positives have to be assigned an object, negatives NEGATIVE", holds=bool(right)
        )
        objects_of = assigned[found.pos_inds]
        fields = (
            ("pos_priors", found.pos_priors, all_priors[found.pos_inds]),
            ("neg_priors", found.neg_priors, all_priors[found.neg_inds]),
            ("pos_is_gt", found.pos_is_gt, found.pos_inds < added),
            ("pos_assigned_gt_inds", found.pos_assigned_gt_inds, objects_of),
            ("pos_gt_bboxes", found.pos_gt_bboxes, objects.boxes[objects_of]),
            ("pos_gt_labels", found.pos_gt_labels, objects.labels[objects_of]),
        )
        for kind, value, expected in fields:
            expect_tensor(config, name + kind, value, tuple(expected.shape), expected.dtype)
            expect(config, f"{name}{kind} is not that of pos_inds and neg_inds", holds=value.equal(expected))
        if (most := config.max_samples) is not None:
            expect(
                config, f"{name}there are more than max_samples", holds=found.num_pos + found.num_neg <= most
            )


def check_anchors(config: AnchorGeneratorConfig | MlvlPointGeneratorConfig) -> None:
    sizes = [(-(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in config.strides]
    priors = config.grid_priors(sizes)
    flags = config.valid_flags(sizes, SIZE)
    expect(config, "grid_priors has to give a tensor a level", holds=len(priors) == len(sizes) == len(flags))
    width = priors[0].shape[-1]
    expect(config, "priors have to be boxes (A, 4) or points (A, 2)", holds=width in (2, 4))
    for level, (height, columns) in enumerate(sizes):
        count = height * columns * config.num_base_priors[level]
        expect_tensor(config, f"grid_priors of level {level}", priors[level], (count, width), torch.float32)
        expect(config, "priors have to be finite", holds=bool(priors[level].isfinite().all()))
        expect_tensor(config, f"valid_flags of level {level}", flags[level], (count,), torch.bool)
        expect(config, "priors of cells within the image have to be valid", holds=bool(flags[level].all()))
    half = config.grid_priors(sizes, device="meta", dtype=torch.float16)
    kept = all(level.dtype == torch.float16 and level.is_meta for level in half)
    expect(config, "grid_priors has to give the device and dtype that are asked for", holds=kept)
