"""What every sampler gives: the positives and negatives of an image that enter the loss.

Shapes: A priors, of which P are sampled as positives and Q as negatives; N ground-truth boxes that are not
ignored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import NEGATIVE, Assignment
from detcfg.config import Config
from detcfg.structures import Targets


@frozen(eq=False)
class PriorPredictions:
    """What a head predicts for priors (n, 4) of one image, for the class that scores highest."""

    scores: Tensor
    """(n,): the highest probability of a foreground class."""
    boxes: Tensor
    """(n, 4): the prior refined for that class."""
    background_losses: Tensor
    """(n,): the classification loss of the prior as a negative."""


class PriorScorer(ABC):
    """The head in training, asked about priors of one image by samplers that mine hard examples."""

    @abstractmethod
    def sample_losses(self, priors: Tensor, labels: Tensor | None) -> Tensor:
        """Per-sample classification loss (n,), for hard example mining (OHEM).

        Args:
            priors: (n, 4).
            labels: (n,) int64, the classes that they are assigned; None: all are background.
        """

    @abstractmethod
    def predict(self, priors: Tensor) -> PriorPredictions:
        """Scores and refined boxes of priors (n, 4)."""


@frozen(eq=False)
class SamplingResult:
    """The sampled priors of one image, and the ground truth that is assigned to the positives."""

    pos_inds: Tensor
    """(P,) int64: indices of the positives, ascending."""
    neg_inds: Tensor
    """(Q,) int64: indices of the negatives, ascending."""
    pos_priors: Tensor
    """(P, 4)."""
    neg_priors: Tensor
    """(Q, 4)."""
    pos_is_gt: Tensor
    """(P,) bool: whether a positive is a ground-truth box added by `add_gt_as_proposals`."""
    pos_assigned_gt_inds: Tensor
    """(P,) int64: index of each positive's ground-truth box among `targets`."""
    pos_gt_bboxes: Tensor
    """(P, 4): that box."""
    pos_gt_labels: Tensor
    """(P,) int64: its class."""
    targets: Targets
    """The N ground-truth objects that are not ignored."""
    avg_factor_with_neg: bool = True
    """Whether losses are averaged over negatives too."""
    neg_weights: Tensor | None = None
    """(Q,) float: weight of each negative in the classification loss; None: 1."""

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
        """Whether ground-truth boxes join the priors (`add_gt_as_proposals`)."""
        return False

    @property
    def needs_scorer(self) -> bool:
        """Whether it mines hard examples by the predictions of the head, as only RoI heads let it."""
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
        scorer: PriorScorer | None = None,
    ) -> SamplingResult:
        """Sample the positives and negatives of one image that enter the loss.

        Args:
            assignment: The ground truth of each prior.
            priors: (A, 4).
            targets: The ground truth of the image; ignored objects are left out.
            scorer: The head that is trained, for samplers that mine hard examples.

        Raises:
            TypeError: The sampler needs a `scorer` (OHEM, score-HLR), which RoI heads give and dense heads do not.
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
    """Gather boxes and classes of the sampled priors; the first `num_added` priors are ground-truth boxes."""
    objects = targets.not_ignored
    gt_inds = assignment.gt_indices[pos_inds]
    return SamplingResult(
        pos_inds=pos_inds,
        neg_inds=neg_inds,
        pos_priors=priors[pos_inds],
        neg_priors=priors[neg_inds],
        pos_is_gt=pos_inds < num_added,
        pos_assigned_gt_inds=gt_inds,
        pos_gt_bboxes=objects.boxes[gt_inds],
        pos_gt_labels=objects.labels[gt_inds],
        targets=objects,
        avg_factor_with_neg=avg_factor_with_neg,
    )


def positives(assignment: Assignment) -> Tensor:
    """Indices of the priors that are assigned a ground-truth box, ascending."""
    return (assignment.gt_indices >= 0).nonzero().squeeze(1)


def negatives(assignment: Assignment) -> Tensor:
    """Indices of the priors that are assigned background, ascending."""
    return (assignment.gt_indices == NEGATIVE).nonzero().squeeze(1)


def with_objects(assignment: Assignment, priors: Tensor, targets: Targets) -> tuple[Assignment, Tensor]:
    """Put the ground-truth boxes before the priors (`add_gt_as_proposals`), each assigned to itself."""
    boxes = targets.not_ignored.boxes.to(priors)
    gt_inds = torch.arange(len(boxes), device=priors.device)
    overlaps = assignment.max_overlaps
    extended = Assignment(
        gt_indices=torch.cat([gt_inds, assignment.gt_indices]),
        max_overlaps=torch.cat([overlaps.new_ones(len(boxes)), overlaps]),
    )
    return extended, torch.cat([boxes, priors])


def objects_of_batch(samplings: Sequence[SamplingResult]) -> Tensor:
    """(P,) int64: the ground-truth object of each positive, counted over all images."""
    before = 0
    gt_inds: list[Tensor] = []
    for sampling in samplings:
        gt_inds.append(sampling.pos_assigned_gt_inds + before)
        before += len(sampling.targets)
    return torch.cat(gt_inds)
