"""Sampling of about as many positives for each ground-truth object."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.samplers.random import Pool, RandomSamplerConfig, balanced_choice


@frozen(kw_only=True)
class InstanceBalancedPosSamplerConfig(RandomSamplerConfig):
    """Draws about as many positives for each ground-truth object, and fills up with any positives.

    From Libra R-CNN (Pang et al., 2019, https://arxiv.org/abs/1904.02701). Follows
    mmdet/models/task_modules/samplers/instance_balanced_pos_sampler.py.
    """

    def choose_positives(self, candidates: Tensor, count: int, pool: Pool) -> Tensor:
        gt_inds = pool.assignment.gt_indices[candidates]
        objects = int(torch.bincount(gt_inds).count_nonzero())
        quota = round(count / objects) + 1
        return balanced_choice(candidates, gt_inds, quota, count)
