"""The contracts of datasets and transforms."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from detcfg.data.base import DatasetConfig, ImageInfo, Sample
from detcfg.data.transforms.base import Pipeline, TransformConfig
from detcfg.structures import Targets
from detcfg.testing.expect import SIZE, expect, expect_tensor, masks_of

SEEDS: Final = 4
"""Times that a transform is drawn."""
SAMPLES: Final = 3
"""Images of a dataset that are read."""


def check_dataset(config: DatasetConfig) -> None:
    from detcfg.evaluation.coco import CocoEvaluator

    dataset = config.dataset()
    expect(config, "its classes have to be the config's", holds=tuple(dataset.classes) == config.classes)
    evaluator = CocoEvaluator(dataset)  # refuses annotations and categories that do not fit
    for index in range(min(len(dataset), SAMPLES)):
        sample, info, targets = dataset[index], dataset.info(index), dataset.targets(index)
        image, count = sample.image, len(sample.targets)
        name = f"sample {index}: "
        expect_tensor(config, f"{name}image", image.as_subclass(Tensor), (3, *image.shape[1:]), torch.uint8)
        expect(config, f"{name}its info has to be that of info({index})", holds=sample.info == info)
        expect_tensor(config, f"{name}boxes", sample.targets.boxes, (count, 4), torch.float32)
        expect_tensor(config, f"{name}labels", sample.targets.labels, (count,), torch.int64)
        labels = sample.targets.labels
        within = bool(((labels >= 0) & (labels < len(dataset.classes))).all())
        expect(config, f"{name}labels have to count the classes", holds=within)
        same = targets.labels.equal(labels) and len(targets.boxes) == count
        expect(config, f"{name}targets({index}) has to give the same objects", holds=same)
        known = info.image_id in set(evaluator.truth.image_ids)
        expect(config, f"{name}ground_truth() has no image {info.image_id!r}", holds=known)


def check_transform(config: TransformConfig) -> None:
    """With white objects on black, so that where they are can be seen after changes of colour too."""
    pipeline = Pipeline((config,))
    for objects, with_masks in ((3, True), (3, False), (0, True)):
        for seed in range(SEEDS):
            sample = _sample(objects, with_masks=with_masks)
            kept, before = sample.image.clone(), sample.targets.boxes.clone()
            found = pipeline(sample, seed)
            _check_sample(config, found, objects, with_masks=with_masks)
            untouched = sample.image.equal(kept) and sample.targets.boxes.equal(before)
            expect(config, "it must not write into the tensors that it is given", holds=untouched)
            again = pipeline(sample, seed)
            same = again.image.equal(found.image) and again.targets.boxes.equal(found.targets.boxes)
            expect(
                config, "the same seed has to give the same result: draw from torch's generator", holds=same
            )


def _sample(objects: int, *, with_masks: bool) -> Sample:
    boxes = torch.tensor([[20.0, 24.0, 84.0, 72.0], [110.0, 40.0, 150.0, 120.0], [40.0, 100.0, 96.0, 148.0]])
    boxes = boxes[:objects]
    masks = masks_of(boxes, SIZE)
    labels = torch.arange(objects)
    return Sample(
        image=(masks.any(dim=0) * 240).to(torch.uint8).expand(3, *SIZE).clone(),
        targets=Targets(
            boxes=boxes, labels=labels, masks=masks if with_masks else None, ignored=labels == objects - 1
        ),
        info=ImageInfo(image_id=0, path="", size=SIZE),
    )


def _check_sample(config: TransformConfig, sample: Sample, objects: int, *, with_masks: bool) -> None:
    image, targets = sample.image.as_subclass(Tensor), sample.targets
    height, width = image.shape[-2:]
    count = len(targets.boxes)
    name = f"of {objects} objects {'with' if with_masks else 'without'} masks "
    expect_tensor(config, f"{name}image", image, (3, height, width), torch.uint8)
    expect_tensor(config, f"{name}boxes", targets.boxes, (count, 4), torch.float32)
    expect_tensor(config, f"{name}labels", targets.labels, (count,), torch.int64)
    expect_tensor(config, f"{name}ignored", targets.ignored, (count,), torch.bool)
    rows = f"{name}boxes, labels, ignored and masks have to be of the same objects"
    labels, ignored = targets.labels, targets.ignored
    known = bool((labels.diff() > 0).all()) and bool((labels < max(objects, 1)).all())
    same = ignored is not None and ignored.equal(labels == objects - 1)
    expect(config, rows, holds=known and same)
    masks = targets.masks
    expect(
        config, f"{name}there have to be masks where there were some", holds=(masks is not None) == with_masks
    )
    if masks is None:
        return
    expect_tensor(config, f"{name}masks", masks, (count, height, width), torch.bool)
    for box, mask in zip(targets.boxes, masks, strict=True):
        ys, xs = torch.nonzero(mask, as_tuple=True)
        if len(ys) == 0:
            continue
        around = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        near = bool(((box - around).abs() <= 2).all())
        expect(
            config,
            f"{name}box {_numbers(box)} is not around its mask, which is in {_numbers(around)}",
            holds=near,
        )
    seen = masks.any(dim=0)
    if not seen.any():
        return
    grey = image.float().mean(dim=0)
    low, high = float(grey.min()), float(grey.max())
    white = high == low or float(grey[seen].mean()) >= low + 0.6 * (high - low)
    expect(config, f"{name}the image's objects are not where the masks are", holds=white)


def _numbers(box: Tensor) -> list[float]:
    return [float(edge) for edge in box]
