"""Sampling of the priors with the highest classification loss."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.boxes.samplers.random import Pool, RandomSamplerConfig


@frozen(kw_only=True)
class OHEMSamplerConfig(RandomSamplerConfig):
    """Online hard example mining (Shrivastava et al., 2016, https://arxiv.org/abs/1604.03540).

    Of positives and negatives alike, those with the highest classification loss are sampled, as many as the
    random sampler would draw. It needs a RoI head, which gives these losses by a forward pass of its own.
    Follows mmdet/models/task_modules/samplers/ohem_sampler.py.
    """

    @property
    def needs_scorer(self) -> bool:
        return True

    def choose_positives(self, candidates: Tensor, count: int, pool: Pool) -> Tensor:
        labels = pool.targets.labels[pool.assignment.gt_indices[candidates]]
        return self._hardest(candidates, count, labels, pool)

    def choose_negatives(self, candidates: Tensor, count: int, pool: Pool) -> Tensor:
        return self._hardest(candidates, count, None, pool)

    def _hardest(self, candidates: Tensor, count: int, labels: Tensor | None, pool: Pool) -> Tensor:
        if pool.scorer is None:
            raise TypeError(
                "OHEMSamplerConfig mines hard examples by their classification loss, which only RoI heads give "
                "their sampler. Give this head a RandomSamplerConfig."
            )
        losses = pool.scorer.sample_losses(pool.priors[candidates], labels)
        return candidates[losses.topk(count).indices]
