"""A checkpoint of torchvision to a folder that detcfg reads: what `detcfg import-torchvision` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.data.classes import COCO_CLASSES
from detcfg.data.coco import CocoDatasetConfig
from detcfg.data.config import DataConfig
from detcfg.engine.checkpoint import BEST, save_experiment, save_weights
from detcfg.experiment import ExperimentConfig
from detcfg.interop.mmdet.checkpoint import read_checkpoint
from detcfg.interop.torchvision.models import DETECTORS, detector_config
from detcfg.interop.torchvision.weights import COCO_LABELS, convert

PUBLISHED: Final = 91
"""Labels of torchvision's published weights, background and those without a name among them."""


@frozen(kw_only=True)
class Result:
    """What a checkpoint was found to be, and where it lies now."""

    name: str
    """torchvision's name of the detector."""
    experiment: ExperimentConfig
    folder: Path
    tensors: int


def import_torchvision(
    checkpoint: Path, out: Path | None = None, classes: tuple[str, ...] = (), *, own: bool = False
) -> Result:
    """Write the weights as safetensors, with the experiment's JSON beside them.

    Args:
        checkpoint: A .pth or .safetensors file. It is never unpickled.
        out: The folder; None: `runs/NAME`.
        classes: The names of the classes, background left out; () for COCO's, of weights that are published.
        own: Whether weights with COCO's labels are of another training than the published one, in which the
            norms of the older detectors count without an epsilon.

    Raises:
        ConfigError: It is of no detector that is known, or of another number of classes.
    """
    state = dict(read_checkpoint(checkpoint).tensors)
    labels = _labels(state)
    published = labels == PUBLISHED and not own
    chosen = COCO_LABELS if labels == PUBLISHED else tuple(range(1, labels))
    names = classes or (COCO_CLASSES if labels == PUBLISHED else ())
    if len(names) != len(chosen):
        raise ConfigError(
            f"{checkpoint} knows {len(chosen)} classes, and {len(names)} are named. Name each, in the order "
            "of torchvision's labels from 1 on: --classes bolt,nut,washer"
        )
    tensors = convert(state, chosen)
    name = _detector_of(tensors, len(chosen), checkpoint)
    data = DataConfig(
        train=CocoDatasetConfig(classes=names),
        val=CocoDatasetConfig(
            ann_file="annotations/instances_val2017.json", img_prefix="val2017", classes=names
        ),
        val_transforms=(),  # the preprocessor resizes
        with_mask=name.startswith("mask"),
    )
    experiment = ExperimentConfig(model=detector_config(name, published=published), data=data).resolved()
    folder = out or Path("runs", name)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(tensors, folder / BEST)
    save_experiment(experiment, folder)
    return Result(name=name, experiment=experiment, folder=folder, tensors=len(tensors))


def _labels(state: Mapping[str, Tensor]) -> int:
    """torchvision's labels, background among them; 0 if there is no layer that predicts them."""
    if (roi := state.get("roi_heads.box_predictor.cls_score.weight")) is not None:
        return len(roi)
    logits = state.get("head.classification_head.cls_logits.weight")
    boxes = state.get("head.regression_head.bbox_reg.weight")
    return 0 if logits is None or boxes is None else 4 * len(logits) // max(1, len(boxes))


def _detector_of(tensors: Mapping[str, Tensor], num_classes: int, path: Path) -> str:
    """The detector with tensors of these names and shapes."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for name in DETECTORS:
        with torch.device("meta"):
            model = evolve(detector_config(name), num_classes=num_classes).build()
        if {key: tensor.shape for key, tensor in model.state_dict().items()} == shapes:
            return name
    raise ConfigError(f"{path} is of none of torchvision's detectors that are here: {', '.join(DETECTORS)}.")
