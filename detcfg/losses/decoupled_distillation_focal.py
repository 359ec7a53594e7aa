"""Decoupled distillation focal loss of D-FINE. N distances, each predicted as a distribution over bins."""

from __future__ import annotations

from functools import partial

from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import PositiveFloat
from detcfg.losses.base import Loss, LossConfig
from detcfg.precision import widened


@frozen(kw_only=True)
class DecoupledDistillationFocalLossConfig(LossConfig):
    """DDF (Peng et al., 2024, https://arxiv.org/abs/2410.13842): earlier layers learn the last layer's distributions.

    Computed in float32: in half precision, where the reference computes it under autocast, the divergence of two
    distributions that are nearly the same is mostly rounding. Follows `loss_local` in zoo/dfine/dfine_criterion.py
    of Peterande/D-FINE.
    """

    temperature: PositiveFloat = 5.0
    """Logits are divided by it; the loss is multiplied by its square."""

    def build(self) -> Loss:
        config = self.resolved()
        return Loss(config, partial(distillation_loss, temperature=config.temperature))


def distillation_loss(pred: Tensor, target: Tensor, *, temperature: float = 5.0) -> Tensor:
    """T^2 * KL(teacher || student) (...) of logits (..., bins); no gradient goes to the teacher (`target`)."""
    student: Tensor = (widened(pred) / temperature).log_softmax(dim=-1)
    teacher: Tensor = (widened(target.detach()) / temperature).log_softmax(dim=-1)
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(dim=-1)
