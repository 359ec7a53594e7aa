"""A person's own components, in a file outside the package, train, are saved and are loaded again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from detcfg.config import ConfigError
from detcfg.engine.checkpoint import LAST, load_training
from detcfg.engine.log import JSON_NAME
from detcfg.engine.run import run_training
from detcfg.engine.weights import load_model, load_weights
from detcfg.experiment import load_experiment

PARTS = '''
"""One component of each kind, and the experiments that use them."""

from __future__ import annotations

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.backbones.base import Backbone, BackboneConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.data.config import DataConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.detectors.base import DetectorConfig
from detcfg.detectors.faster_rcnn import FasterRCNNConfig
from detcfg.detectors.single_stage import SingleStageDetectorConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import SGDConfig
from detcfg.recipe.schedules import ConstantConfig
from detcfg.experiment import ExperimentConfig
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.losses.base import Loss, LossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.necks.base import Neck, NeckConfig
from detcfg.roi_extractors.base import RoIExtractor, RoIExtractorConfig, roi_rescale


@frozen(kw_only=True)
class MyBackboneConfig(BackboneConfig):
    width: int = 8

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return self.width, 2 * self.width

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return 8, 16

    def build(self) -> MyBackbone:
        return MyBackbone(self.resolved())


class MyBackbone(Backbone):
    def __init__(self, config: MyBackboneConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, config.width, 8, stride=8)
        self.down = nn.Conv2d(config.width, 2 * config.width, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        fine = self.stem(images).relu()
        return fine, self.down(fine).relu()


@frozen(kw_only=True)
class MyNeckConfig(NeckConfig):
    out_channels: int = 8

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.out_channels,) * len(self.in_channels)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return self.in_strides

    def build(self) -> MyNeck:
        return MyNeck(self.resolved())


class MyNeck(Neck):
    def __init__(self, config: MyNeckConfig) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, config.out_channels, 1) for c in config.in_channels)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(conv(feature) for conv, feature in zip(self.convs, features, strict=True))


@frozen(kw_only=True)
class MyLossConfig(LossConfig):
    power: float = 1.5

    def build(self) -> Loss:
        return Loss(self.resolved(), lambda pred, target: (pred - target).abs() ** self.power)


@frozen(kw_only=True)
class MyDenseHeadConfig(AnchorHeadConfig):
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(scales=(3.0,))
    loss_cls: FocalLossConfig = FocalLossConfig()
    loss_bbox: LossConfig = MyLossConfig()

    def build(self) -> MyDenseHead:
        return MyDenseHead(self.resolved())


class MyDenseHead(AnchorHead):
    def __init__(self, config: MyDenseHeadConfig) -> None:
        super().__init__(config)
        self.cls = nn.Conv2d(config.in_channels, self.num_base_priors * self.cls_out_channels, 1)
        self.reg = nn.Conv2d(config.in_channels, self.num_base_priors * 4, 1)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        return self.cls(feature), self.reg(feature)


@frozen(kw_only=True)
class MyRoIExtractorConfig(RoIExtractorConfig):
    def build(self) -> MyRoIExtractor:
        return MyRoIExtractor(self.resolved())


class MyRoIExtractor(RoIExtractor):
    """Every roi from every map."""

    def forward(self, features: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        if roi_scale_factor is not None:
            rois = roi_rescale(rois, roi_scale_factor)
        return torch.stack([layer(f, rois) for layer, f in zip(self.roi_layers, features)]).mean(0)


@frozen(kw_only=True)
class MyRoIHeadConfig(StandardRoIHeadConfig):
    context: float = 1.2

    def build(self) -> MyRoIHead:
        return MyRoIHead(self.resolved())


class MyRoIHead(StandardRoIHead):
    def __init__(self, config: MyRoIHeadConfig) -> None:
        super().__init__(config)
        self.context = config.context

    def bbox_forward(self, features: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.pool(features, rois) + self.pool(features, rois, self.context)
        return *self.bbox_head(pooled), pooled


@frozen(kw_only=True)
class OneStage(SingleStageDetectorConfig):
    backbone: BackboneConfig = MyBackboneConfig()
    neck: NeckConfig | None = MyNeckConfig()
    bbox_head: DenseHeadConfig = MyDenseHeadConfig()


@frozen(kw_only=True)
class TwoStage(FasterRCNNConfig):
    backbone: BackboneConfig = MyBackboneConfig()
    neck: NeckConfig | None = MyNeckConfig()
    roi_head: RoIHeadConfig = MyRoIHeadConfig(
        bbox_roi_extractor=MyRoIExtractorConfig(out_channels=8),
        bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=16, loss_bbox=MyLossConfig()),
    )


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: DetectorConfig = MODEL()
    data: DataConfig = DataConfig(
        train=DemoDatasetConfig(num_images=10, image_size=(64, 64)),
        val=DemoDatasetConfig(split="val", num_images=2, image_size=(64, 64)),
        train_transforms=(),
        val_transforms=(),
        num_workers=0,
    )
    trainer: TrainerConfig = TrainerConfig(
        epochs=4, optimizer=SGDConfig(lr=0.1), schedule=ConstantConfig(warmup_iters=2), log_interval=1, device="cpu"
    )
'''


@pytest.mark.parametrize("model", ["OneStage", "TwoStage"])
def test_components_from_outside_train_and_are_loaded_again(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"my_parts_{model.lower()}"
    (tmp_path / f"{name}.py").write_text(PARTS.replace("MODEL()", f"{model}()"))
    monkeypatch.syspath_prepend(tmp_path)
    experiment = load_experiment(tmp_path / f"{name}.py")
    run_training(experiment, tmp_path / "run")
    assert load_training(tmp_path / "run" / LAST).progress["step"] == 20
    log = [json.loads(line) for line in (tmp_path / "run" / JSON_NAME).read_text().splitlines()]
    losses = [entry["loss"] for entry in log if entry["kind"] == "train"]
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5])

    del sys.modules[name]  # as in another process
    with pytest.raises(ConfigError, match=name):
        load_model(tmp_path / "run")
    detector, saved = load_model(tmp_path / "run", allow=[name])
    weights = load_weights(tmp_path / "run" / "best.safetensors")
    assert all(torch.equal(tensor, weights[key]) for key, tensor in detector.state_dict().items())
    assert type(saved.model).__module__ == name
    found = detector.predict([torch.zeros(3, 64, 64, dtype=torch.uint8)])
    assert len(found) == 1
