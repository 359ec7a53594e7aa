"""Several necks, one after another; MMDetection's list of necks."""

from __future__ import annotations

from typing import Self

from attrs import evolve, frozen
from torch import Tensor

from detcfg.config import fill
from detcfg.config.ranges import NonEmpty
from detcfg.necks.base import Neck, NeckConfig


@frozen(kw_only=True)
class SequentialNeckConfig(NeckConfig):
    """Each neck reads what the one before it gives."""

    necks: NonEmpty[NeckConfig]
    """The necks, in the order in which they are applied."""

    def wired(self) -> Self:
        return evolve(super().wired(), necks=self.chained)

    @property
    def chained(self) -> tuple[NeckConfig, ...]:
        """The necks with their inputs filled in."""
        channels, strides = self.in_channels, self.in_strides
        before = "in_"
        chained: list[NeckConfig] = []
        for index, neck in enumerate(self.necks):
            filled = fill(neck, f"{before}channels", in_channels=channels)
            filled = fill(filled, f"{before}strides", in_strides=strides)
            chained.append(filled)
            channels, strides = filled.feature_channels, filled.feature_strides
            before = f"necks.{index}.feature_"
        return tuple(chained)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return self.chained[-1].feature_channels

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return self.chained[-1].feature_strides

    @property
    def reads_image(self) -> bool:
        return self.necks[0].reads_image

    def build(self) -> SequentialNeck:
        return SequentialNeck(self.resolved())


class SequentialNeck(Neck):
    """Its necks are named `0`, `1`, …"""

    def __init__(self, config: SequentialNeckConfig) -> None:
        super().__init__()
        for index, neck in enumerate(config.necks):
            self.add_module(str(index), neck.build())

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for neck in self.children():
            features = neck(features)
        return features
