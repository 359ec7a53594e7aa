"""The head of CenterNet.

Shapes: B images; the one feature map is (B, C, H, W); K classes; N ground-truth objects of one image, P cells at
their centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.geometry import boxes_around, centres, scale_boxes
from detcfg.boxes.nms import NMSConfig
from detcfg.config import Config, ConfigError, derived, is_unset
from detcfg.config.ranges import CountOrAll, OddInt, PositiveInt
from detcfg.heads.anchor_free.heatmap import draw_gaussians, gaussian_radius, peaks
from detcfg.heads.dense.base import DenseHead, DenseHeadConfig
from detcfg.layers.init import bias_init_with_prob, normal_init
from detcfg.losses.base import LossConfig
from detcfg.losses.gaussian_focal import GaussianFocalLossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.precision import widened
from detcfg.structures import Detections, ImageBatch, Targets

MIN_OVERLAP = 0.3
"""An object's heat reaches as far as its corners could move and keep this IoU."""


@frozen(kw_only=True)
class CenterNetTestConfig(Config):
    """How the detections of CenterNet are chosen (MMDetection's `test_cfg`)."""

    topk: PositiveInt = 100
    """Peaks of an image at most, the hottest ones."""
    local_maximum_kernel: OddInt = 3
    """Side of the square, in cells, in which a peak is the hottest."""
    nms: NMSConfig | None = None
    """Non-maximum suppression within each class; None: peaks need none."""
    max_per_img: CountOrAll = 100
    """Detections of an image at most; -1 for all."""


@frozen(kw_only=True)
class CenterNetHeadConfig(DenseHeadConfig):
    """Objects as their centres (Zhou et al., 2019, https://arxiv.org/abs/1904.07850).

    Follows mmdet/models/dense_heads/centernet_head.py.
    """

    in_channels: PositiveInt = derived()
    """Channels of every feature map."""
    feat_channels: PositiveInt = 64
    """Channels of the hidden layers."""
    loss_center_heatmap: LossConfig = GaussianFocalLossConfig()
    """Loss of the heatmap of centres."""
    loss_wh: LossConfig = L1LossConfig(loss_weight=0.1)
    """Loss of widths and heights."""
    loss_offset: LossConfig = L1LossConfig()
    """Loss of what the stride rounds off the centres."""
    test_cfg: CenterNetTestConfig = CenterNetTestConfig()
    """How predictions become detections."""

    def wired(self) -> Self:
        if not is_unset(self.in_strides) and len(self.in_strides) != 1:
            raise ConfigError(
                f"in_strides is {self.in_strides}, but CenterNet reads one level. "
                "Put CTResNetNeckConfig between backbone and head."
            )
        return self

    def build(self) -> CenterNetHead:
        return CenterNetHead(self.resolved())


@frozen(eq=False)
class CentreTargets:
    """The targets of the cells of one image."""

    heat: Tensor
    """(K, H, W) in [0, 1]; 1 at the cell of an object's centre."""
    cells: Tensor
    """(P,) int64, the cells of objects' centres, counted row by row."""
    sizes: Tensor
    """(P, 2) = (width, height) of the object of each, in cells."""
    offsets: Tensor
    """(P, 2) = (x, y) of its centre within the cell."""


class CenterNetHead(DenseHead):
    """Heat of the centres, sizes in cells, and the offset of the centre within its cell."""

    def __init__(self, config: CenterNetHeadConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.test_cfg = config.test_cfg
        self.heatmap_head, self.wh_head, self.offset_head = (
            nn.Sequential(
                nn.Conv2d(config.in_channels, config.feat_channels, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(config.feat_channels, channels, 1),
            )
            for channels in (config.num_classes, 2, 2)
        )
        self.loss_center_heatmap = config.loss_center_heatmap.build()
        self.loss_wh = config.loss_wh.build()
        self.loss_offset = config.loss_offset.build()
        last = self.heatmap_head[-1]
        assert isinstance(last.bias, Tensor)
        nn.init.constant_(last.bias, bias_init_with_prob(0.1))
        for layer in (*self.wh_head, *self.offset_head):
            if isinstance(layer, nn.Conv2d):
                normal_init(layer, std=0.001)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Heat (B, K, H, W), sizes (B, 2, H, W) and offsets (B, 2, H, W)."""
        (x,) = features
        logits, sizes, offsets = widened((self.heatmap_head(x), self.wh_head(x), self.offset_head(x)))
        return logits.sigmoid(), sizes, offsets

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        heat, sizes, offsets = self(features)
        images = [self.image_targets(objects.not_ignored, heat, batch) for objects in targets]
        heat_targets = torch.stack([image.heat for image in images])
        count = shared_factor(heat_targets.eq(1).sum(), heat_targets)
        size_preds, offset_preds = (
            torch.cat([at(maps[i], image.cells) for i, image in enumerate(images)])
            for maps in (sizes, offsets)
        )
        size_targets = torch.cat([image.sizes for image in images])
        offset_targets = torch.cat([image.offsets for image in images])
        return {
            "loss_center_heatmap": self.loss_center_heatmap(heat, heat_targets, avg_factor=count),
            "loss_wh": self.loss_wh(size_preds, size_targets, avg_factor=2 * count),
            "loss_offset": self.loss_offset(offset_preds, offset_targets, avg_factor=2 * count),
        }

    def image_targets(self, objects: Targets, maps: Tensor, batch: ImageBatch) -> CentreTargets:
        """The targets of the cells of one image; `maps` are any predictions."""
        height, width = maps.shape[-2:]
        shrink = batch.tensor.new_tensor((width / batch.tensor.shape[-1], height / batch.tensor.shape[-2]))
        boxes = objects.boxes.to(shrink)
        middles = centres(boxes) * shrink
        sizes = (boxes[:, 2:] - boxes[:, :2]) * shrink
        corners = torch.minimum(middles.long(), shrink.new_tensor((width - 1, height - 1)).long())
        radii = gaussian_radius(sizes, MIN_OVERLAP).long()
        heat = draw_gaussians(corners, radii, objects.labels, self.num_classes, (height, width))
        cells = corners[:, 1] * width + corners[:, 0]
        # Of several objects with their centres in one cell, the last is its target.
        claims = torch.arange(len(cells), device=cells.device)
        last = torch.full((height * width,), -1, device=cells.device).scatter_reduce(0, cells, claims, "amax")
        positive = last[cells] == claims
        return CentreTargets(heat, cells[positive], sizes[positive], (middles - corners)[positive])

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        heat, sizes, offsets = self(features)
        height, width = heat.shape[-2:]
        heat = peaks(heat, self.test_cfg.local_maximum_kernel)
        scores, indices = heat.flatten(1).topk(min(self.test_cfg.topk, heat[0].numel()))
        grow = (batch.tensor.shape[-1] / width, batch.tensor.shape[-2] / height)
        detections: list[Detections] = []
        for image in range(len(batch)):
            labels, cells = indices[image] // (height * width), indices[image] % (height * width)
            corners = torch.stack((cells % width, cells // width), dim=1)
            middles, halves = corners + at(offsets[image], cells), at(sizes[image], cells) / 2
            boxes = scale_boxes(boxes_around(middles, halves), grow)
            boxes = scale_boxes(boxes, batch.scales(image))
            detections.append(self._thinned(Detections(boxes=boxes, scores=scores[image], labels=labels)))
        return detections

    def _thinned(self, found: Detections) -> Detections:
        if self.test_cfg.nms is not None:
            kept, scores = self.test_cfg.nms.keep(found.boxes, found.scores, found.labels)
            found = Detections(boxes=found.boxes[kept], scores=scores, labels=found.labels[kept])
        return found[: self.test_cfg.max_per_img] if self.test_cfg.max_per_img >= 0 else found


def at(maps: Tensor, cells: Tensor) -> Tensor:
    """The values (P, C) of a map (C, H, W) at cells (P,) that are counted row by row."""
    return maps.flatten(1)[:, cells].T
