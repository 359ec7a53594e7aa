"""What `detcfg check` counts, against figures known from elsewhere."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve

from detcfg import load_experiment
from detcfg.config import ConfigError
from detcfg.detectors.base import DetectorConfig
from detcfg.engine.summary import Summary, summarise


@pytest.fixture(scope="module")
def model() -> DetectorConfig:
    return load_experiment("double_head").resolved().model


@pytest.fixture(scope="module")
def summary(model: DetectorConfig) -> Summary:
    return summarise(model, (224, 224))


def test_a_resnet_50_costs_what_its_paper_says(summary: Summary) -> None:
    backbone = next(part for part in summary.parts if part.name == "backbone")

    assert 23_508_032 == backbone.parameters  # torchvision's resnet50 without its last layer
    assert pytest.approx(4.09e9, rel=0.02) == backbone.multiply_adds
    assert ((1, 256, 56, 56), (1, 512, 28, 28), (1, 1024, 14, 14), (1, 2048, 7, 7)) == backbone.shapes


def test_parts_add_up_to_the_whole(summary: Summary) -> None:
    top = [part for part in summary.parts if "." not in part.name]

    assert "" == summary.stopped
    assert summary.parameters == sum(part.parameters for part in top)
    assert summary.trainable == sum(part.trainable for part in top)
    assert summary.multiply_adds == sum(part.multiply_adds for part in top)


def test_frozen_parameters_are_not_learnt(summary: Summary) -> None:
    parts = {part.name: part for part in summary.parts}

    assert 0 == parts["backbone.layer1"].trainable < parts["backbone.layer1"].parameters
    assert parts["backbone.layer2"].trainable == parts["backbone.layer2"].parameters


def test_nothing_is_allocated(model: DetectorConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    original = torch.nn.Parameter.__new__

    def spy(cls: type, data: torch.Tensor | None = None, requires_grad: bool = True) -> object:  # noqa: FBT001, FBT002
        seen.append(str(None if data is None else data.device))
        return original(cls, data, requires_grad)

    monkeypatch.setattr(torch.nn.Parameter, "__new__", spy)
    summarise(model, (64, 64))

    assert {"meta"} == set(seen)


def test_a_config_that_contradicts_itself_is_not_counted(model: DetectorConfig) -> None:
    with pytest.raises(ConfigError, match="num_classes"):
        summarise(evolve(model, num_classes=79), (64, 64))
