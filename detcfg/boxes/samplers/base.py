"""What every sampler gives: the priors of an image that count in the loss.

Shapes: A priors, of which P are sampled as positive and Q as negative; N learnt objects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import NEGATIVE, Assignment
from detcfg.config import Config
from detcfg.structures import Targets

Hardness = Callable[[Tensor, Tensor | None], Tensor]
"""Priors (n, 4) and their classes (n,), or None for background, to how badly a head does (n,)."""


@frozen(eq=False)
class SamplingResult:
    """The sampled priors of one image, and what the positive ones learn."""

    pos_inds: Tensor
    """(P,) int64: indices of the positives, ascending."""
    neg_inds: Tensor
    """(Q,) int64: indices of the negatives, ascending."""
    pos_priors: Tensor
    """(P, 4)."""
    neg_priors: Tensor
    """(Q, 4)."""
    pos_is_gt: Tensor
    """(P,) bool: which positives are objects that the sampler added to the priors."""
    pos_assigned_gt_inds: Tensor
    """(P,) int64: the learnt object of each positive."""
    pos_gt_bboxes: Tensor
    """(P, 4): its box."""
    pos_gt_labels: Tensor
    """(P,) int64: its class."""
    targets: Targets
    """The learnt objects."""
    avg_factor_with_neg: bool = True
    """Whether losses are averaged over negatives too."""
    neg_weights: Tensor | None = None
    """(Q,) float: weight of each negative in classification; None for 1."""

    @property
    def priors(self) -> Tensor:
        """(P + Q, 4): positives, then negatives."""
        return torch.cat([self.pos_priors, self.neg_priors])

    @property
    def num_pos(self) -> int:
        return len(self.pos_inds)

    @property
    def num_neg(self) -> int:
        return len(self.neg_inds)

    @property
    def avg_factor(self) -> int:
        """What losses are averaged over; as in MMDetection, either kind counts for at least one."""
        positives = max(self.num_pos, 1)
        return positives + max(self.num_neg, 1) if self.avg_factor_with_neg else positives


@frozen(kw_only=True)
class SamplerConfig(Config, ABC):
    """The base of samplers. They hold no weights: the config itself samples."""

    @property
    def adds_objects(self) -> bool:
        """Whether the objects themselves join the priors."""
        return False

    @property
    def max_samples(self) -> int | None:
        """At most so many samples an image; None: no bound."""
        return None

    @abstractmethod
    def sample(
        self,
        assignment: Assignment,
        priors: Tensor,
        targets: Targets,
        *,
        hardness: Hardness | None = None,
    ) -> SamplingResult:
        """Choose among the priors (A, 4) of one image.

        Args:
            assignment: What each prior is to learn.
            priors: (A, 4).
            targets: The objects; only the learnt ones count.
            hardness: For samplers that look at how a head does.
        """


def sampling_result(
    assignment: Assignment,
    priors: Tensor,
    targets: Targets,
    *,
    pos_inds: Tensor,
    neg_inds: Tensor,
    num_added: int = 0,
    avg_factor_with_neg: bool = True,
) -> SamplingResult:
    """Gather what belongs to the chosen priors, the first `num_added` of which are objects."""
    learnt = targets.not_ignored
    objects = assignment.gt_indices[pos_inds]
    return SamplingResult(
        pos_inds=pos_inds,
        neg_inds=neg_inds,
        pos_priors=priors[pos_inds],
        neg_priors=priors[neg_inds],
        pos_is_gt=pos_inds < num_added,
        pos_assigned_gt_inds=objects,
        pos_gt_bboxes=learnt.boxes[objects],
        pos_gt_labels=learnt.labels[objects],
        targets=learnt,
        avg_factor_with_neg=avg_factor_with_neg,
    )


def positives(assignment: Assignment) -> Tensor:
    """Indices of the priors that learn an object, ascending."""
    return (assignment.gt_indices >= 0).nonzero().squeeze(1)


def negatives(assignment: Assignment) -> Tensor:
    """Indices of the priors that learn background, ascending."""
    return (assignment.gt_indices == NEGATIVE).nonzero().squeeze(1)


def with_objects(assignment: Assignment, priors: Tensor, targets: Targets) -> tuple[Assignment, Tensor]:
    """The priors with the learnt objects before them, each assigned to itself."""
    boxes = targets.not_ignored.boxes.to(priors)
    numbers = torch.arange(len(boxes), device=priors.device)
    overlaps = assignment.max_overlaps
    grown = Assignment(
        gt_indices=torch.cat([numbers, assignment.gt_indices]),
        max_overlaps=torch.cat([overlaps.new_ones(len(boxes)), overlaps]),
    )
    return grown, torch.cat([boxes, priors])


def objects_of_batch(samplings: Sequence[SamplingResult]) -> Tensor:
    """(P,) int64: the object of each positive, counted over all images."""
    before = 0
    objects: list[Tensor] = []
    for sampling in samplings:
        objects.append(sampling.pos_assigned_gt_inds + before)
        before += len(sampling.targets)
    return torch.cat(objects)
