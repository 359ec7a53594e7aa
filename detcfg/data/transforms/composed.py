"""Transforms made of others."""

from __future__ import annotations

import torch
from attrs import frozen

from detcfg.config import ConfigError
from detcfg.config.ranges import Fraction, NonEmpty
from detcfg.data.transforms.base import Fields, Transform, TransformConfig


@frozen(kw_only=True)
class ComposeConfig(TransformConfig):
    """Several transforms in turn, where one is asked for (mmcv/transforms/wrappers.py, Compose)."""

    transforms: tuple[TransformConfig, ...]
    """Applied in this order; empty: the sample stays as it is."""

    def transform(self) -> Transform:
        return Compose(self)


class Compose:
    def __init__(self, config: ComposeConfig) -> None:
        self.transforms = [inner.transform() for inner in config.transforms]

    def __call__(self, fields: Fields) -> Fields:
        for transform in self.transforms:
            fields = transform(fields)
        return fields


@frozen(kw_only=True)
class RandomChoiceConfig(TransformConfig):
    """One of several transforms, drawn anew for each image (mmcv/transforms/wrappers.py, RandomChoice)."""

    transforms: tuple[TransformConfig, ...]
    """What is drawn from; `ComposeConfig` makes several into one."""
    prob: NonEmpty[Fraction] | None = None
    """How often each is drawn, in sum 1; None: all alike."""

    def wired(self) -> RandomChoiceConfig:
        if not self.transforms:
            raise ConfigError("transforms is empty; give those to draw from.")
        if self.prob is not None and (
            len(self.prob) != len(self.transforms) or min(self.prob) < 0 or abs(sum(self.prob) - 1) > 1e-6
        ):
            raise ConfigError(
                f"prob is {self.prob}; give a share for each of the {len(self.transforms)} transforms, in sum 1."
            )
        return self

    def transform(self) -> Transform:
        return RandomChoice(self)


class RandomChoice:
    def __init__(self, config: RandomChoiceConfig) -> None:
        self.transforms = [inner.transform() for inner in config.transforms]
        self.shares = torch.tensor(config.prob or [1.0] * len(self.transforms))

    def __call__(self, fields: Fields) -> Fields:
        return self.transforms[int(torch.multinomial(self.shares, 1))](fields)
