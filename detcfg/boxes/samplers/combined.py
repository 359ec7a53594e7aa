"""One sampler for positives and another for negatives."""

from __future__ import annotations

from typing import Self

from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.samplers.instance_balanced_pos import InstanceBalancedPosSamplerConfig
from detcfg.boxes.samplers.iou_balanced_neg import IoUBalancedNegSamplerConfig
from detcfg.boxes.samplers.random import Pool, RandomSamplerConfig


@frozen(kw_only=True)
class CombinedSamplerConfig(RandomSamplerConfig):
    """One sampler chooses the positives and another the negatives; how many is decided here.

    Follows mmdet/models/task_modules/samplers/combined_sampler.py; the defaults are Libra R-CNN's.
    """

    pos_sampler: RandomSamplerConfig = InstanceBalancedPosSamplerConfig()
    """Chooses the positives; its numbers are overwritten by this sampler's."""
    neg_sampler: RandomSamplerConfig = IoUBalancedNegSamplerConfig()
    """Chooses the negatives; its numbers are overwritten by this sampler's."""

    def wired(self) -> Self:
        return evolve(
            self,
            pos_sampler=self._with_numbers(self.pos_sampler),
            neg_sampler=self._with_numbers(self.neg_sampler),
        )

    @property
    def needs_scorer(self) -> bool:
        return self.pos_sampler.needs_scorer or self.neg_sampler.needs_scorer

    def _with_numbers(self, part: RandomSamplerConfig) -> RandomSamplerConfig:
        """A part with this sampler's numbers, so that a resolved config shows those in use."""
        return evolve(
            part,
            num=self.num,
            pos_fraction=self.pos_fraction,
            neg_pos_ub=self.neg_pos_ub,
            add_gt_as_proposals=self.add_gt_as_proposals,
        )

    def choose_positives(self, candidates: Tensor, count: int, pool: Pool) -> Tensor:
        return self.pos_sampler.choose_positives(candidates, count, pool)

    def choose_negatives(self, candidates: Tensor, count: int, pool: Pool) -> Tensor:
        return self.neg_sampler.choose_negatives(candidates, count, pool)
