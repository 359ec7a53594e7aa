"""Sampling of as many hard as easy negatives, by their overlap with the ground truth."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.samplers.random import Pool, RandomSamplerConfig, balanced_choice, random_choice
from detcfg.config.ranges import Fraction, FractionOrOff, PositiveInt


@frozen(kw_only=True)
class IoUBalancedNegSamplerConfig(RandomSamplerConfig):
    """Draws as many negatives from each interval of IoU, and fills up with any negatives.

    From Libra R-CNN (Pang et al., 2019, https://arxiv.org/abs/1904.02701). Follows
    mmdet/models/task_modules/samplers/iou_balanced_neg_sampler.py, except that there a `floor_thr` of -1
    turns into 0 once the sampler has been used.
    """

    floor_thr: FractionOrOff = -1.0
    """IoU at which the intervals begin; -1: at 0, and negatives that overlap nothing belong to the first."""
    floor_fraction: Fraction = 0.0
    """Fraction of the negatives drawn from an IoU below `floor_thr`; where that is 0, from an IoU of 0."""
    num_bins: PositiveInt = 3
    """Intervals of IoU from which as many negatives are drawn."""

    def choose_negatives(self, candidates: Tensor, count: int, pool: Pool) -> Tensor:
        overlaps = pool.assignment.max_overlaps
        ious = overlaps[candidates]
        below = ious < self.floor_thr if self.floor_thr else ious == 0
        above = candidates[~below]
        chosen = self._spread(above, overlaps, min(len(above), int(count * (1 - self.floor_fraction))))
        low = random_choice(candidates[below], count - len(chosen))
        taken = torch.zeros_like(overlaps, dtype=torch.bool)
        taken[chosen] = taken[low] = True
        rest = candidates[~taken[candidates]]
        return torch.cat([low, chosen, random_choice(rest, count - len(low) - len(chosen))])

    def _spread(self, candidates: Tensor, overlaps: Tensor, count: int) -> Tensor:
        """`count` of the candidates, spread over the intervals between the floor and the highest IoU."""
        if self.num_bins == 1 or len(candidates) <= count:
            return random_choice(candidates, count)
        steps = torch.linspace(0, 1, self.num_bins + 1, device=overlaps.device)
        floor = max(self.floor_thr, 0.0)
        bins = torch.bucketize(overlaps[candidates], floor + (overlaps.max() - floor) * steps, right=True) - 1
        bins = bins.where(bins < self.num_bins, -1)  # as in MMDetection, the highest is in none
        return balanced_choice(candidates, bins, count // self.num_bins, count)
