"""What RoI heads share: how their configs are wired, how proposals are sampled and detections chosen.

Shapes: R rois over the whole batch; K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.geometry import scale_boxes
from detcfg.boxes.nms import NMSConfig, multiclass_nms
from detcfg.boxes.samplers.base import SamplerConfig, SamplingResult
from detcfg.config import Config, fill
from detcfg.heads.bbox.bbox_head import BBoxHead, BBoxHeadConfig
from detcfg.heads.mask.base import MaskHeadConfig
from detcfg.heads.roi.shared_head import SharedHeadConfig
from detcfg.roi_extractors.base import RoIExtractorConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class RoITestConfig(Config):
    """How the detections of a RoI head are chosen (MMDetection's `test_cfg.rcnn`)."""

    score_thr: float = 0.05
    """The score that a detection exceeds."""
    nms: NMSConfig = NMSConfig(iou_threshold=0.5)
    """How the detections of a class are thinned out."""
    max_per_img: int = 100
    """At most so many detections of an image; -1 for all."""
    min_bbox_size: float = -1.0
    """The width and the height that a detection exceeds, in output pixels; below 0 for no bound."""
    mask_thr_binary: float = 0.5
    """The probability from which a pixel belongs to an object."""


P = TypeVar("P", bound=Config)
H = TypeVar("H", bound=BBoxHeadConfig | MaskHeadConfig)


def on_pooled(config: P, name: str, extractor: RoIExtractorConfig) -> P:
    """A config that reads the features which the extractor of this name pools."""
    config = fill(config, f"{name}.out_channels", in_channels=extractor.out_channels)
    return fill(config, f"{name}.roi_layer.output_size", roi_feat_size=extractor.roi_layer.output_size)


def wired_head(
    head: H,
    num_classes: int,
    name: str,
    extractor: RoIExtractorConfig,
    shared: SharedHeadConfig | None = None,
) -> H:
    """A head that reads what the extractor of this name pools, perhaps through the shared head."""
    head = fill(head, "num_classes", num_classes=num_classes)
    if shared is None:
        return on_pooled(head, name, extractor)
    head = fill(head, "shared_head.feature_channels", in_channels=shared.feature_channels)
    return fill(head, "shared_head.feature_size", roi_feat_size=shared.feature_size)


def assign_proposals(
    assigner: MaxIoUAssignerConfig, proposals: Sequence[Detections], targets: Sequence[Targets]
) -> list[Assignment]:
    """What the proposals of each image are to learn."""
    return [assigner.assign(found.boxes, objects) for found, objects in zip(proposals, targets, strict=True)]


Hardness = Callable[[int, Tensor, Tensor | None], Tensor]
"""An image's index, priors (n, 4) and their classes (n,) or None for background, to losses (n,)."""


def sample_proposals(
    assignments: Sequence[Assignment],
    sampler: SamplerConfig,
    proposals: Sequence[Detections],
    targets: Sequence[Targets],
    hardness: Hardness,
) -> list[SamplingResult]:
    """The proposals of each image that count, and what they learn."""
    samplings: list[SamplingResult] = []
    for index, (assignment, found, objects) in enumerate(zip(assignments, proposals, targets, strict=True)):
        own_hardness = partial(hardness, index)
        samplings.append(sampler.sample(assignment, found.boxes, objects, hardness=own_hardness))
    return samplings


def rois_of(index: int, boxes: Tensor) -> Tensor:
    """Boxes (n, 4) of one image as rois (n, 5)."""
    return torch.cat([boxes.new_full((len(boxes), 1), index), boxes], dim=1)


def choose(
    cfg: RoITestConfig, boxes: Tensor, scores: Tensor, score_factors: Tensor | None = None
) -> Detections:
    """Of one image's rois, boxes (R, 4) or (R, K * 4) and scores (R, K), the detections.

    Scores are multiplied by the factors (R,) once low ones are gone.
    """
    boxes, scores, labels, _ = multiclass_nms(
        boxes,
        scores,
        score_thr=cfg.score_thr,
        nms=cfg.nms,
        max_per_img=cfg.max_per_img,
        score_factors=score_factors,
        min_bbox_size=cfg.min_bbox_size,
    )
    return Detections(boxes=boxes, scores=scores, labels=labels)


def decode_image(
    head: BBoxHead, rois: Tensor, bbox_pred: Tensor, batch: ImageBatch, index: int, *, rescale: bool
) -> Tensor:
    """The boxes of one image, of the shape of `bbox_pred`, in output or in network pixels."""
    boxes = head.decode(rois, bbox_pred.float(), batch.sizes[index])
    return scale_boxes(boxes, batch.scales(index)) if rescale else boxes
