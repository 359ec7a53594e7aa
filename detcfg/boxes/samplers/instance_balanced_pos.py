"""Sampling of about as many positives for each object."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.samplers.random import Pool, RandomSamplerConfig, balanced_choice


@frozen(kw_only=True)
class InstanceBalancedPosSamplerConfig(RandomSamplerConfig):
    """Each object has the same share of the positives, and what is over goes to any.

    From Libra R-CNN (Pang et al., 2019, https://arxiv.org/abs/1904.02701). Follows
    mmdet/models/task_modules/samplers/instance_balanced_pos_sampler.py.
    """

    def choose_positives(self, candidates: Tensor, wanted: int, pool: Pool) -> Tensor:
        objects = pool.assignment.gt_indices[candidates]
        count = int(torch.bincount(objects).count_nonzero())
        quota = round(wanted / count) + 1
        return balanced_choice(candidates, objects, quota, wanted)
