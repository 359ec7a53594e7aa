"""The work that is measured: a training step and an inference, of an experiment and of its peer."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from attrs import define
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.detectors.base import Detector
from detcfg.detectors.faster_rcnn import FasterRCNN
from detcfg.engine.seeds import seed_all
from detcfg.experiment import ExperimentConfig
from detcfg.recipe.amp import Amp, autocast
from detcfg.structures import Targets

OBJECTS = 7
"""Objects in an image, as many as COCO's have."""


@define
class Workload:
    """Random images of one size with random objects, the same for all that are compared."""

    images: list[Tensor]
    targets: list[Targets]

    @classmethod
    def of(cls, batch: int, size: tuple[int, int], num_classes: int, device: torch.device) -> Workload:
        """`size` is (height, width)."""
        chance = torch.Generator().manual_seed(0)
        height, width = size
        images: list[Tensor] = []
        targets: list[Targets] = []
        for _ in range(batch):
            images.append(torch.randint(0, 256, (3, height, width), generator=chance, dtype=torch.uint8))
            corner, extent = (torch.rand(OBJECTS, 2, generator=chance) for _ in range(2))
            boxes = torch.cat([corner * 0.7, corner * 0.7 + 0.02 + extent * 0.28], 1)
            boxes = boxes * torch.tensor([width, height, width, height])
            masks = torch.zeros(OBJECTS, height, width, dtype=torch.bool)
            for mask, box in zip(masks, boxes.long(), strict=True):
                x1, y1, x2, y2 = (int(side) for side in box)
                mask[y1 : y2 + 1, x1 : x2 + 1] = True
            labels = torch.randint(0, num_classes, (OBJECTS,), generator=chance)
            targets.append(Targets(boxes=boxes, labels=labels, masks=masks).to(device))
        return cls(images=[image.to(device) for image in images], targets=targets)


def training_step(
    experiment: ExperimentConfig, model: Detector, work: Workload, *, amp: Amp
) -> Callable[[], object]:
    """Forward, backward and the optimizer, as the trainer does them."""
    optimizer = experiment.trainer.optimizer.optimizer(model, 1e-4)  # so small that the work stays the same

    def step() -> None:
        seed_all(0)
        model.train()
        with autocast(model, amp):
            losses = model.loss(work.images, work.targets)
        _descend(losses, optimizer)

    return step


def inference(model: Detector, work: Workload, *, amp: Amp) -> Callable[[], object]:
    """The detections of the first image."""

    def predict() -> None:
        model.eval()
        with torch.inference_mode(), autocast(model, amp):
            model.predict(work.images[:1])

    return predict


def torchvisions(
    model: Detector, work: Workload, size: tuple[int, int], num_classes: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The same step and inference of torchvision's Faster R-CNN, with the same backbone's weights.

    Raises:
        ConfigError: torchvision has no counterpart of the model.
    """
    if type(model) is not FasterRCNN:
        raise ConfigError(f"--against torchvision: it has no counterpart of {type(model).__name__}.")
    detection: Any = import_module("torchvision.models.detection")
    peer: Any = detection.fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=num_classes + 1,  # torchvision counts the background
        min_size=min(size),
        max_size=max(size),
    )
    _share_backbone(peer, model)
    peer.to(work.images[0].device)
    trained = [parameter for parameter in peer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9, weight_decay=1e-4)
    targets = [{"boxes": t.boxes, "labels": t.labels + 1} for t in work.targets]

    def step() -> None:
        seed_all(0)
        peer.train()
        _descend(peer([image / 255 for image in work.images], targets), optimizer)

    def predict() -> None:
        peer.eval()
        with torch.inference_mode():
            peer([work.images[0] / 255])

    return step, predict


def _share_backbone(peer: Any, model: Detector) -> None:
    """Give torchvision's ResNet frozen norms, our weights and the same frozen stages."""
    models: Any = import_module("torchvision.models")
    ops: Any = import_module("torchvision.ops")
    utils: Any = import_module("torchvision.models.detection.backbone_utils")
    body = models.resnet50(norm_layer=ops.FrozenBatchNorm2d)
    body.load_state_dict(model.get_submodule("backbone").state_dict(), strict=False)
    peer.backbone = utils._resnet_fpn_extractor(body, 3)  # noqa: SLF001  # there is no public way to this


def _descend(losses: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    total: Any = torch.stack(list(losses.values())).sum()
    total.backward()
    optimizer.step()
    optimizer.zero_grad()
