"""`detcfg import-torchvision` turns a checkpoint into a folder that the other commands take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import detection

from detcfg.cli.main import run
from detcfg.config import ConfigError
from detcfg.data.classes import COCO_CLASSES
from detcfg.engine.weights import load_model
from detcfg.errors import DetcfgError
from detcfg.interop.torchvision.command import import_torchvision
from detcfg.interop.torchvision.models import DETECTORS


def saved(folder: Path, name: str, labels: int = 4) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    model = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=labels)
    path = folder / "model.pth"
    torch.save({"model": model.state_dict(), "epoch": 3}, path)
    return path, model


@pytest.mark.parametrize("name", DETECTORS)
def test_the_detector_is_known_by_its_weights(tmp_path: Path, name: str) -> None:
    path, _ = saved(tmp_path, name)
    result = import_torchvision(path, tmp_path / "run", ("bolt", "nut", "washer"))
    assert result.name == name
    model, experiment = load_model(tmp_path / "run")
    assert experiment == result.experiment
    assert len(model.state_dict()) == result.tensors


def test_it_finds_what_torchvisions_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = saved(tmp_path, "fasterrcnn_resnet50_fpn", 91)
    with pytest.raises(SystemExit) as done:
        run(["import-torchvision", str(path), "--out", str(tmp_path / "run"), "--own"])
    assert done.value.code == 0
    assert "is a fasterrcnn_resnet50_fpn of 80 classes" in capsys.readouterr().out
    ours, experiment = load_model(tmp_path / "run")
    assert experiment.data.classes == COCO_CLASSES
    image = torch.randint(256, (3, 160, 200), dtype=torch.uint8)
    with torch.no_grad():
        features = model.eval().backbone((image[None] / 255 - MEAN) / STD)  # type: ignore[operator,union-attr]
        found = ours.extract_features((image[None] / 255 - MEAN) / STD)
    for wanted, got in zip(features.values(), found, strict=False):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def test_classes_are_to_be_named_each(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "fcos_resnet50_fpn")
    with pytest.raises(ConfigError, match="knows 3 classes, and 2 are named"):
        import_torchvision(path, tmp_path / "run", ("bolt", "nut"))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(DetcfgError, match="is of no RetinaNet"):
        import_torchvision(tmp_path / "other.pth", tmp_path / "run", ())
