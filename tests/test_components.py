"""What holds of every config class: each field is described, its description is true, and something reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import pytest
import torch
from attrs import evolve, frozen
from torch import nn

from detcfg.backbones.base import BackboneConfig
from detcfg.catalogue import components
from detcfg.config import Config, ConfigError, ModuleConfig
from detcfg.config.types import field_types, matches
from detcfg.necks.base import NeckConfig
from tests.support.config_fields import configs, field_docs, made, plausible, unread_fields, where

if TYPE_CHECKING:
    from collections.abc import Iterable

M = TypeVar("M", bound=nn.Module)

DOCUMENTS_NONE: Final = re.compile(r"\bNone:|\bor None\b")
WITHOUT_EFFECT: Final = re.compile(r"^(Not|Never) (used|read)\b|\bno effect\b")


def undescribed(classes: Iterable[type[Config]]) -> list[str]:
    """Fields without a docstring."""
    return [f"{where(cls)}.{name}" for cls in classes for name, doc in field_docs(cls).items() if not doc]


def refusing_none(classes: Iterable[type[Config]]) -> list[str]:
    """Fields whose docstring says what None means, and whose type refuses it."""
    return [
        f"{where(cls)}.{name}"
        for cls in classes
        for name, doc in field_docs(cls).items()
        if DOCUMENTS_NONE.search(doc) and not matches(None, field_types(cls)[name])
    ]


def taken_in_silence(classes: Iterable[type[Config]]) -> list[str]:
    """Fields whose docstring says that they have no effect, and that take another value than their default."""
    return [
        f"{where(cls)}.{name}"
        for cls in classes
        for name, doc in field_docs(cls).items()
        if WITHOUT_EFFECT.search(doc) and (config := made(cls)) is not None and takes_another(config, name)
    ]


def takes_another(config: Config, name: str) -> bool:
    """Whether a field takes any other value of its type."""
    others = (value for value in plausible(field_types(type(config))[name]) if value != getattr(config, name))
    return any(not is_refused(config, name, value) for value in others)


def is_refused(config: Config, name: str, value: object) -> bool:
    """Whether the value is an error that names the field."""
    try:
        evolve(config, **{name: value}).resolved()
    except (TypeError, ValueError, ConfigError) as error:
        return name in str(error)
    return False


def test_every_field_has_a_docstring() -> None:
    assert undescribed(configs()) == []


def test_a_field_that_documents_none_takes_none() -> None:
    assert refusing_none(configs()) == []


def test_a_field_that_says_it_has_no_effect_refuses_a_value() -> None:
    assert taken_in_silence(configs()) == []


def test_every_field_is_read_somewhere() -> None:
    assert unread_fields(configs()) == []


@frozen(kw_only=True)
class SloppyConfig(Config):
    """What the checks above are there to find."""

    silent: float = 0.0
    """Not used."""
    refused: int = 0
    """Not used here."""
    optional: int = 0
    """None: as many as there are."""
    nobody_asks: bool = False

    def resolved(self) -> SloppyConfig:
        if self.refused:
            raise ConfigError("refused is not used. Leave it out.")
        return self


def test_the_checks_find_what_they_are_there_for() -> None:
    """Beside them stands a field that each of them lets pass."""
    sloppy = where(SloppyConfig)
    assert undescribed([SloppyConfig]) == [f"{sloppy}.nobody_asks"]
    assert refusing_none([SloppyConfig]) == [f"{sloppy}.optional"]
    assert taken_in_silence([SloppyConfig]) == [f"{sloppy}.silent"]
    assert set(unread_fields([SloppyConfig])) >= {f"{sloppy}.silent", f"{sloppy}.nobody_asks"}


def optional_parts() -> list[tuple[type[ModuleConfig], str]]:
    """Backbones and necks, and their fields that document None and have another default."""
    return [
        (component.cls, name)
        for component in components()
        if issubclass(component.cls, BackboneConfig | NeckConfig)
        for cls in component.cls.__mro__
        if issubclass(cls, Config)
        for name, doc in field_docs(cls).items()
        if DOCUMENTS_NONE.search(doc) and attrs.fields_dict(component.cls)[name].default is not None
    ]


@pytest.mark.parametrize(("cls", "name"), optional_parts(), ids=lambda part: getattr(part, "__name__", part))
def test_a_backbone_or_neck_is_built_with_none_where_it_documents_it(
    cls: type[ModuleConfig], name: str
) -> None:
    config: Any = made(cls)
    if isinstance(config, NeckConfig):
        config = evolve(config, in_channels=(64,) * 3, in_strides=(8, 16, 32))
    with torch.device("meta"):
        plain, without = config.build(), evolve(config, **{name: None}).build()
    if name == "norm_cfg":
        assert norms(plain)
        assert not norms(without)
        assert all(conv.bias is not None for conv in of_kind(without, nn.Conv2d))
    if name == "act_cfg":
        assert len(list(without.modules())) < len(list(plain.modules()))


def of_kind(module: nn.Module, kind: type[M] | tuple[type[M], ...]) -> list[M]:
    return [part for part in module.modules() if isinstance(part, kind)]


def norms(module: nn.Module) -> list[nn.Module]:
    return of_kind(module, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm))
