"""Sampling of negatives that overlap objects by much and by little alike."""

from __future__ import annotations

from typing import Self

import torch
from attrs import field, frozen, validators
from torch import Tensor

from detcfg.boxes.samplers.random import Pool, RandomSamplerConfig, balanced_choice, random_choice
from detcfg.config import ConfigError


@frozen(kw_only=True)
class IoUBalancedNegSamplerConfig(RandomSamplerConfig):
    """Bins of overlap have the same share of the negatives, and what is over goes to any.

    From Libra R-CNN (Pang et al., 2019, https://arxiv.org/abs/1904.02701). Follows
    mmdet/models/task_modules/samplers/iou_balanced_neg_sampler.py, except that there a `floor_thr` of -1
    turns into 0 once the sampler has been used.
    """

    floor_thr: float = -1.0
    """Bins begin at this overlap; -1: at 0, and they include what overlaps nothing."""
    floor_fraction: float = field(default=0.0, validator=[validators.ge(0), validators.le(1)])
    """Share of the negatives that come from below `floor_thr`, or, where it is 0, overlap nothing."""
    num_bins: int = field(default=3, validator=validators.ge(1))
    """Intervals of IoU that are drawn from equally."""

    def wired(self) -> Self:
        if self.floor_thr < 0 and self.floor_thr != -1:
            raise ConfigError(f"floor_thr is {self.floor_thr}; give an overlap of at least 0, or -1.")
        return self

    def choose_negatives(self, candidates: Tensor, wanted: int, pool: Pool) -> Tensor:
        overlaps = pool.assignment.max_overlaps
        own = overlaps[candidates]
        below = own < self.floor_thr if self.floor_thr else own == 0
        above = candidates[~below]
        chosen = self._spread(above, overlaps, min(len(above), int(wanted * (1 - self.floor_fraction))))
        low = random_choice(candidates[below], wanted - len(chosen))
        taken = torch.zeros_like(overlaps, dtype=torch.bool)
        taken[chosen] = taken[low] = True
        rest = candidates[~taken[candidates]]
        return torch.cat([low, chosen, random_choice(rest, wanted - len(low) - len(chosen))])

    def _spread(self, candidates: Tensor, overlaps: Tensor, wanted: int) -> Tensor:
        """`wanted` of the candidates, from all bins between the floor and the highest overlap."""
        if self.num_bins == 1 or len(candidates) <= wanted:
            return random_choice(candidates, wanted)
        steps = torch.linspace(0, 1, self.num_bins + 1, device=overlaps.device)
        floor = max(self.floor_thr, 0.0)
        bins = torch.bucketize(overlaps[candidates], floor + (overlaps.max() - floor) * steps, right=True) - 1
        bins = bins.where(bins < self.num_bins, -1)  # as in MMDetection, the highest is in none
        return balanced_choice(candidates, bins, wanted // self.num_bins, wanted)
