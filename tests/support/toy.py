"""A small family of configs to test the core with, free of detection."""

from __future__ import annotations

from typing import Literal, Self

from attrs import evolve, field, frozen, validators
from torch import nn

from detcfg.config import Config, ConfigError, ModuleConfig, derived, fill

allocated: list[str] = []
"""What was built, for the tests that say that nothing was."""


@frozen(kw_only=True)
class BodyConfig(ModuleConfig):
    depth: int = field(default=50, validator=validators.in_((18, 50, 101)))
    pretrained: str | None = None

    @property
    def channels(self) -> tuple[int, ...]:
        return (64, 512) if self.depth < 50 else (256, 2048)

    def build(self) -> nn.Module:
        allocated.append("body")
        return nn.Conv2d(3, self.channels[0], 1)


@frozen(kw_only=True)
class HeadConfig(ModuleConfig):
    in_channels: tuple[int, ...] = derived()
    num_classes: int = derived()
    width: int = 16
    threshold: float = 0.5
    mode: Literal["sum", "mean"] = "mean"

    def build(self) -> nn.Module:
        config = self.resolved()
        allocated.append("head")
        return nn.Linear(config.in_channels[0], config.num_classes)


@frozen(kw_only=True)
class WideHeadConfig(HeadConfig):
    width: int = 64
    extra: tuple[float, ...] = (1.0,)

    def build(self) -> nn.Module:
        return super().build()


@frozen(kw_only=True)
class ModelConfig(ModuleConfig):
    num_classes: int = derived()
    body: BodyConfig = BodyConfig()
    head: HeadConfig = HeadConfig()
    others: tuple[HeadConfig, ...] = ()

    def wired(self) -> Self:
        def filled(head: HeadConfig) -> HeadConfig:
            head = fill(head, "body.channels", in_channels=self.body.channels)
            return fill(head, "num_classes", num_classes=self.num_classes)

        if self.head.width > 1000:
            raise ConfigError(f"head.width is {self.head.width}, and at most 1000 fits.")
        return evolve(self, head=filled(self.head), others=tuple(map(filled, self.others)))

    def build(self) -> nn.Module:
        config = self.resolved()
        return nn.Sequential(config.body.build(), config.head.build())


@frozen(kw_only=True)
class JobConfig(Config):
    model: ModelConfig = ModelConfig(num_classes=3)
    epochs: int = 12
    rate: float = 0.1
    milestones: tuple[int, ...] = (8, 11)
    name: str = "job"
    warm: bool = True
    limit: float | None = None

    def run(self) -> str:
        return self.name


@frozen(kw_only=True)
class Model(ModelConfig):
    head: HeadConfig = WideHeadConfig(
        threshold=0.7,
        width=8,
        mode="mean",
    )


@frozen(kw_only=True)
class Job(JobConfig):
    model: Model = Model(num_classes=5)
    epochs: int = 6


@frozen(kw_only=True)
class ChildModel(Model):
    head: HeadConfig = evolve(Model().head, width=9)


@frozen(kw_only=True)
class ChildJob(Job):
    model: ChildModel = ChildModel(num_classes=5)
