"""What RoI heads share: how detections are selected, and how the inputs of heads on rois are filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.geometry import scale_boxes
from detcfg.boxes.nms import NMSConfig
from detcfg.config import Config, fill
from detcfg.config.ranges import CountOrAll, Fraction
from detcfg.heads.roi.shared_head import SharedHeadConfig
from detcfg.masks import paste
from detcfg.roi_extractors.base import RoIExtractorConfig
from detcfg.structures import Detections, ImageBatch


@frozen(kw_only=True)
class RoITestConfig(Config):
    """How the detections of a RoI head are selected (MMDetection's `test_cfg.rcnn`)."""

    score_thr: Fraction = 0.05
    """Candidates with a score of at most this are dropped."""
    nms: NMSConfig = NMSConfig(iou_threshold=0.5)
    """Non-maximum suppression within each class."""
    max_per_img: CountOrAll = 100
    """At most so many detections of an image; -1 for all."""
    min_bbox_size: float = -1.0
    """Boxes at most this wide or high, in output pixels (with a mask head in network pixels), are dropped;
    negative: none are."""
    mask_thr_binary: Fraction = 0.5
    """Pixels with at least this probability belong to the mask."""


H = TypeVar("H", bound=Config)


def wired_head(
    head: H, source: str, extractor: RoIExtractorConfig, shared: SharedHeadConfig | None = None
) -> H:
    """A head on rois with its `in_channels` and `roi_feat_size` filled in.

    Args:
        head: It reads what `extractor` pools, or what `shared` makes of that.
        source: The field of the extractor, which errors name.
        extractor: With its own inputs filled in.
        shared: The same.

    Raises:
        ConfigError: The head was given other values.
    """
    if shared is not None:
        head = fill(head, "shared_head.feature_channels", in_channels=shared.feature_channels)
        return fill(head, "shared_head.feature_size", roi_feat_size=shared.feature_size)
    head = fill(head, f"{source}.out_channels", in_channels=extractor.out_channels)
    return fill(head, f"{source}.roi_layer.output_size", roi_feat_size=extractor.roi_layer.output_size)


def with_pasted_masks(
    detections: Sequence[Detections], probabilities: Tensor, batch: ImageBatch, threshold: float
) -> list[Detections]:
    """Detections in network pixels to detections in output pixels with masks.

    Args:
        detections: Of each image, n over all images.
        probabilities: (n, M, M): the probability of each cell of each box, image by image.
        batch: The images.
        threshold: Pixels with at least this probability belong to the mask.
    """
    masked: list[Detections] = []
    for index, part in enumerate(torch.split(probabilities, [len(image) for image in detections])):
        boxes = scale_boxes(detections[index].boxes, batch.scales(index))
        masks = paste(part, boxes, batch.output_sizes[index], threshold)
        masked.append(evolve(detections[index], boxes=boxes, masks=masks))
    return masked
