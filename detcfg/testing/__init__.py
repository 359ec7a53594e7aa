"""A component of your own, held against the contract of its kind: `check_component(MyCoderConfig())` in a test.

It looks at shapes, types, devices, the order of inputs, inputs that are empty, and gradients, whatever the kind
promises; each base class says what that is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from detcfg.backbones.base import BackboneConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.config import Config
from detcfg.data.base import DatasetConfig
from detcfg.data.transforms.base import TransformConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.losses.base import LossConfig
from detcfg.necks.base import NeckConfig
from detcfg.recipe.optimizers import OptimizerConfig
from detcfg.recipe.schedules import ScheduleConfig
from detcfg.structures import Targets
from detcfg.testing.boxes import check_anchors, check_assigner, check_coder, check_sampler
from detcfg.testing.data import check_dataset, check_transform
from detcfg.testing.expect import ContractError
from detcfg.testing.heads import check_dense_head, check_roi_head
from detcfg.testing.losses import check_loss
from detcfg.testing.maps import check_backbone, check_neck
from detcfg.testing.recipe import check_optimizer, check_schedule

__all__ = ["CHECKS", "ContractError", "check_component"]

CHECKS: Final[dict[type[Config], Callable[..., None]]] = {
    BBoxCoderConfig: check_coder,
    AssignerConfig: check_assigner,
    SamplerConfig: check_sampler,
    AnchorGeneratorConfig: check_anchors,
    MlvlPointGeneratorConfig: check_anchors,
    BackboneConfig: check_backbone,
    NeckConfig: check_neck,
    DenseHeadConfig: check_dense_head,
    RoIHeadConfig: check_roi_head,
    LossConfig: check_loss,
    OptimizerConfig: check_optimizer,
    ScheduleConfig: check_schedule,
    DatasetConfig: check_dataset,
    TransformConfig: check_transform,
}
"""By kind, what holds a component of it."""


def check_component(
    config: Config,
    *,
    inputs: tuple[Tensor, Tensor] | None = None,
    assign: Callable[[Tensor, Targets], Assignment] | None = None,
) -> None:
    """Hold a component against the contract of its kind, with inputs at random.

    Args:
        config: Whatever surrounds it would fill in has to be given: a neck's or a head's `in_channels` and
            `in_strides`, a head's `num_classes`, an anchor generator's `strides`.
        inputs: Of a loss: prediction and target of N elements, where it is not a loss of boxes (N, 4) against boxes
            nor one of logits (N, C) against labels (N,), of which 3 is background.
        assign: Of an assigner that goes by more than boxes: a function of priors (A, 4) and targets that calls it.

    Raises:
        ContractError: It breaks the contract; the message says which part.
        ConfigError: A value is missing or wrong.
        TypeError: There is no contract for this kind.

    >>> from detcfg.boxes.coders.tblr import TBLRBBoxCoderConfig
    >>> check_component(TBLRBBoxCoderConfig(normalizer=2.0))
    """
    resolved = config.resolved()
    given: dict[str, Any] = {"inputs": inputs, "assign": assign}
    for family, check in CHECKS.items():
        if isinstance(resolved, family):
            before = torch.default_generator.get_state()
            torch.default_generator.manual_seed(0)
            try:
                check(resolved, **{name: value for name, value in given.items() if value is not None})
            finally:
                torch.default_generator.set_state(before)
            return
    kinds = ", ".join(family.__name__ for family in CHECKS)
    raise TypeError(f"check_component has no contract for {type(config).__name__}. It knows {kinds}.")
