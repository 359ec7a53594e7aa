"""Sampling of the priors that a head gets most wrong."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.boxes.samplers.random import Pool, RandomSamplerConfig


@frozen(kw_only=True)
class OHEMSamplerConfig(RandomSamplerConfig):
    """Online hard example mining (Shrivastava et al., 2016, https://arxiv.org/abs/1604.03540).

    The priors of the highest classification loss count, up to the numbers of the random sampler.
    Follows mmdet/models/task_modules/samplers/ohem_sampler.py.
    """

    def choose_positives(self, candidates: Tensor, wanted: int, pool: Pool) -> Tensor:
        labels = pool.targets.labels[pool.assignment.gt_indices[candidates]]
        return self._hardest(candidates, wanted, labels, pool)

    def choose_negatives(self, candidates: Tensor, wanted: int, pool: Pool) -> Tensor:
        return self._hardest(candidates, wanted, None, pool)

    def _hardest(self, candidates: Tensor, wanted: int, labels: Tensor | None, pool: Pool) -> Tensor:
        if pool.hardness is None:
            raise TypeError("OHEMSamplerConfig asks how a head does, so only RoI heads can sample with it.")
        loss = pool.hardness(pool.priors[candidates], labels)
        return candidates[loss.topk(wanted).indices]
