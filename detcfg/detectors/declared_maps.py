"""What backbones and necks declare of their maps, held against the first ones that they give."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.maps import difference
from detcfg.config import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from detcfg.necks.base import NeckConfig


class DeclaredMaps:
    """Looks at the maps of each part once: a detector's strides and channels do not change after its first batch."""

    def __init__(self, **parts: BackboneConfig | NeckConfig | None) -> None:
        """Take the configs of the parts, by their fields' names."""
        self._unseen = {name: config for name, config in parts.items() if config is not None}

    def check(self, name: str, features: tuple[Tensor, ...], images: Tensor) -> None:
        """Compare the maps of a part with its config, the first time that it is called for that part.

        Args:
            name: Of the part.
            features: What it gives.
            images: (B, 3, H, W), what `features` are of.

        Raises:
            ConfigError: They differ in number, channels or strides. It names the file and line of the config's class.
        """
        config = self._unseen.pop(name, None)
        if config is None:
            return
        if isinstance(config, BackboneConfig) and config.gives_image:
            features = features[1:]
        size = (images.shape[-2], images.shape[-1])
        found = difference(features, config.feature_channels, config.feature_strides, size)
        if found:
            raise ConfigError(
                f"{_place(type(config))}: {name} is {type(config).__name__}: {found}. Heads and anchors go by what the "
                "config declares: correct its feature_channels and feature_strides, or what the module gives."
            )


def _place(cls: type) -> str:
    """The file and line of a class."""
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):  # written at an interpreter's prompt
        return cls.__module__
