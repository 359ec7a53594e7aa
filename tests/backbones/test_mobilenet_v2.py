"""MobileNetV2 has MMDetection's names and takes torchvision's weights."""

from __future__ import annotations

import pytest
import torch

from detcfg.backbones.mobilenet_v2 import MobileNetV2Config, make_divisible
from detcfg.config import ConfigError


def test_weights_of_torchvision_give_the_same_maps_under_our_names() -> None:
    from torchvision import models

    torch.manual_seed(0)
    theirs = models.get_model("mobilenet_v2").eval()
    ours = MobileNetV2Config().build().eval()
    tensors = ours.rename_pretrained(theirs.state_dict())
    ours.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("classifier")}, strict=True)

    x = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(ours(x)[-1], theirs.get_submodule("features")(x))


@pytest.mark.parametrize("widen_factor", [0.5, 1.0, 1.4])
def test_channels_and_strides_are_known_before_there_are_weights(widen_factor: float) -> None:
    config = MobileNetV2Config(widen_factor=widen_factor, out_indices=(0, 1, 2, 3, 4, 5, 6, 7))
    with torch.device("meta"):
        features = config.build()(torch.empty(1, 3, 64, 128))

    assert tuple(f.shape[1] for f in features) == config.feature_channels
    assert tuple(64 // f.shape[2] for f in features) == config.feature_strides


def test_its_default_levels_are_those_of_mmdetection() -> None:
    config = MobileNetV2Config()
    assert config.feature_channels == (24, 32, 96, 1280)
    assert config.feature_strides == (4, 8, 16, 32)


def test_frozen_stages_train_nothing() -> None:
    model = MobileNetV2Config(frozen_stages=1).build().train()
    still = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}

    assert still == {"conv1", "layer1"}
    assert not model.conv1.training
    assert model.get_submodule("layer2").training


@pytest.mark.parametrize(
    ("value", "width"), [(32 * 0.75, 24), (16 * 0.35, 8), (24 * 1.4, 32), (35, 32), (36, 40)]
)
def test_widths_are_multiples_of_eight_that_lose_at_most_a_tenth(value: float, width: int) -> None:
    assert make_divisible(value) == width


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="out_indices"):
        MobileNetV2Config(out_indices=(8,)).resolved()
