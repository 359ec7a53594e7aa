"""No sampling at all."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.samplers.base import (
    PriorScorer,
    SamplerConfig,
    SamplingResult,
    negatives,
    positives,
    sampling_result,
)
from detcfg.structures import Targets


@frozen(kw_only=True)
class PseudoSamplerConfig(SamplerConfig):
    """Every positive and negative enters the loss, which is averaged over the positives.

    Follows mmdet/models/task_modules/samplers/pseudo_sampler.py.
    """

    def sample(
        self,
        assignment: Assignment,
        priors: Tensor,
        targets: Targets,
        *,
        scorer: PriorScorer | None = None,
    ) -> SamplingResult:
        del scorer
        return sampling_result(
            assignment,
            priors,
            targets,
            pos_inds=positives(assignment),
            neg_inds=negatives(assignment),
            avg_factor_with_neg=False,
        )
