"""Optimizers, with multipliers of learning rate and weight decay by parameter.

Follows mmengine/optim/optimizer/default_constructor.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.optim import Optimizer

from detcfg.config import Config
from detcfg.config.ranges import Fraction, NonNegativeFloat, PositiveFloat, ProperFraction

Groups: TypeAlias = list[dict[str, Any]]

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


@frozen(kw_only=True)
class CustomKeyConfig(Config):
    """Multipliers for the parameters whose name contains `key`, in place of all other rules."""

    key: str
    """`backbone`, `roi_head.bbox_head`, `absolute_pos_embed` ..."""
    lr_mult: NonNegativeFloat = 1.0
    """Multiplies the learning rate."""
    decay_mult: NonNegativeFloat = 1.0
    """Multiplies the weight decay."""


@frozen(kw_only=True)
class ParamwiseConfig(Config):
    """Multipliers of the learning rate and the weight decay by the kind of a parameter."""

    backbone_lr_mult: NonNegativeFloat = 1.0
    """Multiplies the learning rate of the whole backbone."""
    bias_lr_mult: NonNegativeFloat = 1.0
    """Multiplies the learning rate of biases, those of norms left out."""
    bias_decay_mult: NonNegativeFloat = 1.0
    """Multiplies the weight decay of biases, those of norms left out."""
    norm_decay_mult: NonNegativeFloat = 1.0
    """Multiplies the weight decay of the scales and shifts of norms."""
    dwconv_decay_mult: NonNegativeFloat = 1.0
    """Multiplies the weight decay of depth-wise convolutions."""
    flat_decay_mult: NonNegativeFloat = 1.0
    """Multiplies the weight decay of other parameters of one dimension."""
    custom_keys: tuple[CustomKeyConfig, ...] = ()
    """Of several keys in a parameter's name, the longest one counts."""

    def multipliers(self, module: nn.Module, name: str, parameter: nn.Parameter) -> tuple[float, float]:
        """What the learning rate and the weight decay of a parameter are multiplied by.

        Args:
            module: What the parameter is directly in.
            name: Its name in the whole model.
            parameter: The parameter itself.
        """
        for custom in sorted(self.custom_keys, key=lambda custom: (-len(custom.key), custom.key)):
            if custom.key in name:
                return custom.lr_mult, custom.decay_mult
        lr_mult = self.backbone_lr_mult if name.startswith("backbone.") else 1.0
        if isinstance(module, NORMS):
            return lr_mult, self.norm_decay_mult
        if name.endswith("bias"):
            return lr_mult * self.bias_lr_mult, self.bias_decay_mult
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels:
            return lr_mult, self.dwconv_decay_mult
        return lr_mult, self.flat_decay_mult if parameter.ndim == 1 else 1.0


@frozen(kw_only=True)
class OptimizerConfig(Config, ABC):
    """A config that makes an optimizer of a model's parameters."""

    lr: PositiveFloat = 0.02
    """The learning rate for `TrainerConfig.base_batch_size` images per step."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay."""
    paramwise_cfg: ParamwiseConfig = ParamwiseConfig()
    """Multipliers of both by parameter."""

    @abstractmethod
    def of(self, groups: Groups) -> Optimizer:
        """The optimizer of parameter groups, each with its `lr` and `weight_decay`."""

    def optimizer(self, model: nn.Module, lr_scale: float = 1.0) -> Optimizer:
        """The optimizer of what is trained in `model`, with one group for each pair of multipliers.

        Each group keeps the learning rate that its schedule multiplies as `initial_lr`.

        Args:
            model: Parameters with `requires_grad` false are left out.
            lr_scale: The learning rate is multiplied by it, for another batch size.

        Raises:
            ValueError: Nothing in the model is trained.
        """
        found: dict[tuple[float, float], list[nn.Parameter]] = {}
        for module, name, parameter in _trained(model):
            found.setdefault(self.paramwise_cfg.multipliers(module, name, parameter), []).append(parameter)
        if not found:
            raise ValueError("Nothing in the model is trained: requires_grad is false for every parameter.")
        groups: Groups = []
        for (lr_mult, decay_mult), parameters in found.items():
            lr, decay = self.lr * lr_scale * lr_mult, self.weight_decay * decay_mult
            groups.append({"params": parameters, "lr": lr, "initial_lr": lr, "weight_decay": decay})
        return self.of(groups)


def can_fuse(groups: Groups) -> bool:
    """Whether one operation can update all parameters of the groups: plain ones on the CPU or on CUDA."""
    parameters: list[nn.Parameter] = [parameter for group in groups for parameter in group["params"]]
    return all(type(p) is nn.Parameter and p.device.type in ("cpu", "cuda") for p in parameters)


def load_state(
    optimizer: Optimizer,
    state: dict[str, Any],
    before: Sequence[str] | None = None,
    now: Sequence[str] | None = None,
) -> None:
    """Take up what an optimizer has learnt: its moments, not its learning rate, weight decay, momentum and the like.

    Each tensor is laid out as its parameter, which a fused update relies on.

    Args:
        optimizer: What goes on, with the values of its config.
        state: `Optimizer.state_dict()` of the one before.
        before: The names of its parameters, group by group; None: those of now, in the same groups.
        now: The names of the parameters of `optimizer`, group by group. One that was not trained before begins anew.

    Raises:
        ValueError: It is the state of another kind of optimizer, or of other groups.
    """
    own = optimizer.state_dict()
    learnt: dict[int, Any] = state["state"]
    if before is None or now is None:
        for group, saved in zip(own["param_groups"], state["param_groups"], strict=False):
            if differing := group.keys() ^ saved.keys():
                raise ValueError(f"only one of the two has {', '.join(sorted(differing))}")
        if [g["params"] for g in own["param_groups"]] != [g["params"] for g in state["param_groups"]]:
            raise ValueError("its groups of parameters are others (paramwise_cfg, or what is frozen)")
    elif before != now:
        index = {name: i for i, name in enumerate(before)}
        learnt = {i: learnt[index[name]] for i, name in enumerate(now) if index.get(name) in learnt}
    optimizer.load_state_dict({"state": learnt, "param_groups": own["param_groups"]})
    if any(values.get("momentum_buffer") is not None for values in optimizer.state.values()):
        # A fused update of SGD takes momenta of all or of none: those that are new begin at 0, as any first one does.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _trained(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Each trained parameter once, with the module that it is in and its full name."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield model.get_submodule(name.rpartition(".")[0]), name, parameter


@frozen(kw_only=True)
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum."""

    momentum: Fraction = 0.9
    """The factor of the previous update in the next one."""
    nesterov: bool = False
    """Use Nesterov momentum."""

    def of(self, groups: Groups) -> Optimizer:
        return torch.optim.SGD(
            groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=can_fuse(groups)
        )


@frozen(kw_only=True)
class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101)."""

    lr: PositiveFloat = 1e-4
    """The learning rate for `TrainerConfig.base_batch_size` images per step."""
    weight_decay: NonNegativeFloat = 0.05
    """Weight decay."""
    betas: tuple[ProperFraction, ProperFraction] = (0.9, 0.999)
    """Decay rates of the running averages of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator, against division by zero."""

    def of(self, groups: Groups) -> Optimizer:
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=can_fuse(groups))
