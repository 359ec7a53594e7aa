"""Any model of timm that gives features, as a backbone; needs the extra `timm`.

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each of `out_indices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, Self, cast

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.base import BackboneConfig, StagedBackbone
from detcfg.backbones.maps import difference
from detcfg.backbones.meta import weights_on_meta
from detcfg.config import ConfigError, did_you_mean
from detcfg.config.ranges import Increasing, IntOrOff, NonNegativeInt

STRIDES: Final = (4, 8, 16, 32)
"""Strides whose maps are given where no `out_indices` are."""
TRIED: Final = (256, 416)
"""(height, width) of the image that a model has to take: multiples of 32, as images are padded, and of little else."""
ANY_SIZE: Final[tuple[dict[str, bool], ...]] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"strict_img_size": False, "dynamic_mask": True},
    {"strict_img_size": False},
    {},
)
"""Arguments with which models take images of any size; each family knows one of these sets."""


@frozen(kw_only=True)
class TimmBackboneConfig(BackboneConfig):
    """A model of timm (https://github.com/huggingface/pytorch-image-models), made with `features_only`.

    Its channels and strides are read off a copy that has no weights.
    """

    name: str
    """As `timm.create_model` takes it: "convnext_tiny", "pvt_v2_b0" …"""
    out_indices: Increasing[NonNegativeInt] = ()
    """timm's own numbers of the feature maps to give, such as 11 for the last of twelve blocks of a ViT; empty: those
    that timm gives by itself, of strides 4, 8, 16 and 32."""
    frozen_stages: IntOrOff = 0
    """Freeze the backbone up to this many of its feature maps."""
    norm_eval: bool = True
    """Batch norms use their running statistics in training too."""

    def wired(self) -> Self:
        model = describe(self.name)
        if not all(index < len(model.maps) for index in self.out_indices):
            raise ConfigError(
                f"out_indices is {self.out_indices}, but {self.name} has maps 0 to {len(model.maps) - 1}."
            )
        if not self.maps:
            raise ConfigError(
                f"name is {self.name!r}, which gives no map of stride 4, 8, 16 or 32, but {figures(model.given)}. "
                "Name in out_indices what a neck of your own can use, or choose another model."
            )
        if problem := misfit(self.name, tuple(m.number for m in self.maps)):
            raise ConfigError(f"name is {self.name!r}, {problem}")
        if self.frozen_stages > len(self.maps):
            raise ConfigError(f"frozen_stages is {self.frozen_stages}, but there are {len(self.maps)} maps.")
        return super().wired()

    @property
    def maps(self) -> tuple[TimmMap, ...]:
        """The feature maps that come out."""
        model = describe(self.name)
        if not self.out_indices:
            return tuple(m for m in model.given if m.stride in STRIDES)
        return tuple(model.maps[index] for index in self.out_indices)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(m.channels for m in self.maps)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return tuple(m.stride for m in self.maps)

    def build(self) -> TimmBackbone:
        return TimmBackbone(self.resolved())


class TimmMap(NamedTuple):
    """One of timm's feature maps."""

    number: int
    """timm's number of it, which `out_indices` of `timm.create_model` takes."""
    module: str
    """The module whose output it is."""
    channels: int
    """Its channels."""
    stride: int
    """Pixels of the input to one cell of it."""


class TimmModel(NamedTuple):
    """What timm says of a model."""

    maps: tuple[TimmMap, ...]
    """All of its feature maps, by number."""
    given: tuple[TimmMap, ...]
    """Those that it gives where none are asked for."""


def figures(maps: tuple[TimmMap, ...]) -> str:
    """The maps in words."""
    return ", ".join(f"map {m.number} of stride {m.stride} with {m.channels} channels" for m in maps)


class TimmBackbone(StagedBackbone):
    """timm's model as `body`, under the names that `features_only` gives its parts."""

    def __init__(self, config: TimmBackboneConfig) -> None:
        super().__init__()
        self.norm_eval = config.norm_eval
        self.body = make(config.name, tuple(m.number for m in config.maps))
        frozen = [m.module for m in config.maps[: config.frozen_stages]]
        names = [name for name, module in self._modules_of_body() if not list(module.children())]
        self._frozen = _up_to(names, frozen)
        for name in _up_to([name for name, _ in self.body.named_parameters()], frozen):
            self.body.get_parameter(name).requires_grad = False
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return as_nchw(self.body, self.body(images))

    def frozen_modules(self) -> list[nn.Module]:
        return [self.body.get_submodule(name) for name in self._frozen]

    def rename_pretrained(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`stages.0.blocks` of timm's files may be `stages_0.blocks` here."""
        names = {_flat(name.removeprefix("body.")): name for name in self.state_dict()}
        return {names.get(_flat(name), name): tensor for name, tensor in tensors.items()}

    def _modules_of_body(self) -> Iterable[tuple[str, nn.Module]]:
        return cast("Iterable[tuple[str, nn.Module]]", self.body.named_modules())


def _up_to(names: list[str], modules: list[str]) -> list[str]:
    """The names up to the last that is of one of the modules; timm lists things in the order of their use."""
    inside = [
        index
        for index, name in enumerate(names)
        if any(f"{_flat(name)}_".startswith(f"{_flat(module)}_") for module in modules)
    ]
    return names[: max(inside, default=-1) + 1]


def _flat(name: str) -> str:
    return name.removeprefix("model.").replace(".", "_")


def make(name: str, out_indices: tuple[int, ...] | None = None) -> nn.Module:
    """A model of timm with random weights; `out_indices` None: all of its maps.

    Raises:
        ConfigError: timm is not installed, there is no such model, or it gives no features.
    """
    if find_spec("timm") is None:
        raise ConfigError("The backbone is of timm, which is not installed: pip install 'detcfg[timm]'.")
    timm: Any = import_module("timm")
    known = cast("list[str]", timm.list_models())
    if name not in known and not timm.is_model(name):
        raise ConfigError(f"name is {name!r}, which is no model of timm. {did_you_mean(name, known)}")
    given = {} if out_indices is None else {"out_indices": out_indices}  # by default the last, three to five
    problem: Exception | None = None
    for arguments in ANY_SIZE:
        try:
            return cast(
                "nn.Module",
                timm.create_model(name, features_only=True, pretrained=False, **given, **arguments),
            )
        except (TypeError, RuntimeError, AssertionError, AttributeError) as error:
            problem = error
    raise ConfigError(f"name is {name!r}, which gives no feature maps ({problem}).") from problem


@lru_cache
def describe(name: str) -> TimmModel:
    """The maps of a model of timm, with nothing allocated."""
    with weights_on_meta():
        info: Any = make(name).feature_info
    entries = cast("list[dict[str, Any]]", info.info)
    maps = tuple(
        TimmMap(number, str(entry["module"]), int(entry["num_chs"]), int(entry["reduction"]))
        for number, entry in enumerate(entries)
    )
    return TimmModel(maps=maps, given=tuple(maps[number] for number in cast("list[int]", info.out_indices)))


@lru_cache
def misfit(name: str, numbers: tuple[int, ...]) -> str:
    """Why a detector cannot read these maps of a model; empty if it can, or if only a run with weights would say so."""
    size = TRIED
    with weights_on_meta(), torch.no_grad():
        body = make(name, numbers).eval()
        try:
            found = as_nchw(body, body(torch.empty(1, 3, *size)))
        except (ArithmeticError, AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            if "meta" in str(error):
                return ""
            why = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
            return (
                f"which does not take images of any size, as a detector's are ({size[0]}x{size[1]} was tried: {why}). "
                "Choose another model."
            )
    maps = tuple(describe(name).maps[number] for number in numbers)
    strides = tuple(m.stride for m in maps)
    if not difference(found, tuple(m.channels for m in maps), strides, size):
        return ""
    shapes = ", ".join("x".join(map(str, tuple(x.shape)[1:])) for x in found)
    return (
        f"of which timm says that it has {figures(maps)}, but its maps of an image of {size[0]}x{size[1]} are {shapes}. "
        "Choose another model."
    )


def as_nchw(body: nn.Module, maps: list[Tensor]) -> tuple[Tensor, ...]:
    """A model's maps as (B, C, H, W)."""
    channels_last = "NHWC" in str(getattr(body, "output_fmt", ""))
    return tuple(x.permute(0, 3, 1, 2).contiguous() if channels_last else x for x in maps)
