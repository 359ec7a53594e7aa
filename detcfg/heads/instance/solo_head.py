"""The head of SOLO, and what its relatives share.

Shapes: B images; features are (B, C, H_i, W_i); level i has a grid of G_i x G_i cells, numbered row by
row; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import check_one_per_level
from detcfg.boxes.matrix_nms import matrix_nms
from detcfg.config import Config, ConfigError, derived
from detcfg.config.ranges import (
    CountOrAll,
    Fraction,
    NonEmpty,
    NonNegativeInt,
    OneOrMoreLayers,
    Ordered,
    PositiveFloat,
    PositiveInt,
)
from detcfg.heads.dense.base import DenseHead, DenseHeadConfig
from detcfg.heads.dense.towers import conv_tower, init_classifier, init_convs
from detcfg.heads.instance.solo_targets import GridTargetMaker, GridTargets
from detcfg.layers.coordinates import with_coordinates
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.dice import DiceLossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.reduce import num_shares, shared_factor
from detcfg.masks import enlarge, shrink
from detcfg.ops import unique
from detcfg.precision import widened
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class SOLOTestConfig(Config):
    """How the detections of SOLO are chosen (MMDetection's `test_cfg`)."""

    nms_pre: CountOrAll = 500
    """Candidates that go on to matrix NMS, the best by score; -1 for all."""
    score_thr: Fraction = 0.1
    """Candidates with a score of at most this are dropped."""
    mask_thr: Fraction = 0.5
    """A pixel belongs to an object above this probability."""
    filter_thr: Fraction = 0.05
    """Detections with a score below this after matrix NMS are dropped; at most 0: none are."""
    kernel: Literal["gaussian", "linear"] = "gaussian"
    """How matrix NMS lowers the scores of masks that overlap."""
    sigma: PositiveFloat = 2.0
    """Of the Gaussian kernel: larger values lower scores more."""
    max_per_img: CountOrAll = 100
    """Detections of an image at most, the best by score; -1 for all."""


@frozen(kw_only=True)
class SOLOHeadConfig(DenseHeadConfig):
    """A mask for each cell of a grid (Wang et al., 2019, https://arxiv.org/abs/1912.04488).

    Follows mmdet/models/dense_heads/solo_head.py.
    """

    in_channels: PositiveInt = derived()
    """Channels of every feature map."""
    feat_channels: PositiveInt = 256
    """Channels of the hidden layers."""
    stacked_convs: OneOrMoreLayers = 7
    """Layers of each tower."""
    scale_ranges: NonEmpty[Ordered[PositiveFloat]] = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
    """For each level the least and the greatest square root of the areas of its objects' boxes, in pixels."""
    pos_scale: PositiveFloat = 0.2
    """The share of an object's box, around its centre, whose cells are positive."""
    num_grids: NonEmpty[PositiveInt] = (40, 36, 24, 16, 12)
    """Cells along each side of each level's grid."""
    cls_down_index: NonNegativeInt = 0
    """The layer of the tower for classes before which features are resized to the grid."""
    loss_mask: LossConfig = DiceLossConfig(loss_weight=3.0)
    """Mask loss."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """Classification loss. Also decides between sigmoid and softmax."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    test_cfg: SOLOTestConfig = SOLOTestConfig()
    """How predictions become detections."""

    def wired(self) -> Self:
        check_one_per_level(self, "in_strides", "num_grids", "scale_ranges")
        if self.cls_down_index >= self.stacked_convs:
            raise ConfigError(
                f"cls_down_index is {self.cls_down_index} and stacked_convs is {self.stacked_convs}; features are "
                f"resized before one of the layers, 0 to {self.stacked_convs - 1}."
            )
        return self

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each level once the first is halved and the last brought to the size before it."""
        first, *between, _ = self.in_strides
        return (2 * first, *between, between[-1])

    def tower(self, in_channels: int) -> nn.Sequential:
        """One tower, with weights of its own: (B, in_channels, H, W) to (B, feat_channels, H, W)."""
        kinds = [None] * self.stacked_convs
        return conv_tower(in_channels, self.feat_channels, kinds, norm_cfg=self.norm_cfg)

    def build(self) -> SOLOHead:
        return SOLOHead(self.resolved())


@frozen(eq=False)
class SOLOPredictions:
    """What a head of SOLO predicts for a batch."""

    cls_scores: tuple[Tensor, ...]
    """(B, K, G_i, G_i) logits of each level."""
    masks: tuple[tuple[Tensor, ...], ...]
    """What masks are made of, which differs from head to head."""


class SOLOHead(DenseHead):
    """Relatives replace `forward`, `cell_masks`, `cell_probabilities` and perhaps `mask_stride`."""

    shared_cells = False
    """Whether a cell has the masks of all objects that it is positive for as targets, or that of the last."""

    def __init__(self, config: SOLOHeadConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.num_grids = config.num_grids
        self.strides = config.strides
        self.cls_down_index = config.cls_down_index
        self.test_cfg = config.test_cfg
        self.loss_mask = config.loss_mask.build()
        self.loss_cls = config.loss_cls.build()
        self.target_maker = GridTargetMaker(
            num_classes=config.num_classes,
            num_grids=config.num_grids,
            scale_ranges=config.scale_ranges,
            pos_scale=config.pos_scale,
            shared_cells=self.shared_cells,
        )
        self._init_layers(config)

    def _init_layers(self, config: SOLOHeadConfig) -> None:
        width = config.feat_channels
        self.mask_convs = config.tower(config.in_channels + 2)
        self.cls_convs = config.tower(config.in_channels)
        self.conv_mask_list = nn.ModuleList(nn.Conv2d(width, grid**2, 1) for grid in config.num_grids)
        self.conv_cls = nn.Conv2d(width, config.num_classes, 3, padding=1)
        init_convs(self)
        for layer in (*self.conv_mask_list, self.conv_cls):
            init_classifier(layer)

    def forward(self, features: tuple[Tensor, ...]) -> SOLOPredictions:
        """The masks are (B, G_i^2, 2 H_i, 2 W_i) logits of each level."""
        cls_scores: list[Tensor] = []
        masks: list[Tensor] = []
        for level, x in enumerate(resize_features(features)):
            cls_scores.append(self.classify(x, level))
            mask_features = doubled(self.mask_convs(with_coordinates(x)))
            masks.append(self.conv_mask_list[level](mask_features))
        return SOLOPredictions(widened(tuple(cls_scores)), (widened(tuple(masks)),))

    def classify(self, x: Tensor, level: int) -> Tensor:
        """The logits (B, K, G, G) of a level."""
        for index, layer in enumerate(self.cls_convs):
            if index == self.cls_down_index:
                x = F.interpolate(x, size=(self.num_grids[level],) * 2, mode="bilinear")
            x = layer(x)
        scores: Tensor = self.conv_cls(x)
        return scores

    def mask_stride(self, level: int) -> float:
        """Pixels of the image to one of a predicted mask."""
        return self.strides[level] / 2

    def cell_masks(self, predictions: SOLOPredictions, image: int, level: int, cells: Tensor) -> Tensor:
        """The masks (n, h, w) of some cells of a level as `loss_mask` takes them."""
        return predictions.masks[0][level][image, cells]

    def cell_probabilities(
        self, predictions: SOLOPredictions, image: int, level: int, cells: Tensor
    ) -> Tensor:
        """The masks (n, h, w) of some cells of a level in the pixels of the first level."""
        first = predictions.masks[0][0]
        masks = self.cell_masks(predictions, image, level, cells).sigmoid()
        return resized(masks, first.shape[-2:])

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        predictions = self(features)
        canvas = (batch.tensor.shape[-2], batch.tensor.shape[-1])
        images = [objects.not_ignored for objects in targets]
        grids = [self.target_maker(objects, canvas) for objects in images]
        losses: list[Tensor] = []
        for image, (objects, levels) in enumerate(zip(images, grids, strict=True)):
            losses += self._mask_losses(predictions, image, objects, levels, canvas)
        num_pos = sum((level.labels < self.num_classes).sum() for levels in grids for level in levels)
        num_pos = torch.as_tensor(num_pos, device=batch.tensor.device)
        labels = [torch.cat([levels[i].labels for levels in grids]) for i in range(len(self.num_grids))]
        scores = [maps.permute(0, 2, 3, 1).reshape(-1, self.num_classes) for maps in predictions.cls_scores]
        return {
            "loss_mask": torch.cat(losses).sum() / shared_factor(num_pos, num_pos),
            "loss_cls": self.loss_cls(
                torch.cat(scores), torch.cat(labels), avg_factor=num_pos + 1 / num_shares()
            ),
        }

    def _mask_losses(
        self,
        predictions: SOLOPredictions,
        image: int,
        objects: Targets,
        levels: tuple[GridTargets, ...],
        canvas: tuple[int, int],
    ) -> list[Tensor]:
        """For each level the loss of the mask of each positive cell."""
        losses: list[Tensor] = []
        assert objects.masks is not None
        for level, target in enumerate(levels):
            masks = self.cell_masks(predictions, image, level, target.cells)
            inds, which = unique(target.gt_inds)
            gt_masks = shrink(objects.masks[inds], self.mask_stride(level), canvas)
            losses.append(self.loss_mask(masks, gt_masks[which], reduction_override="none"))
        return losses

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        predictions = self(features)
        scores = torch.cat([_peaks(maps.sigmoid()).flatten(2) for maps in predictions.cls_scores], dim=2)
        canvas = (batch.tensor.shape[-2], batch.tensor.shape[-1])
        detections: list[Detections] = []
        for image, size in enumerate(batch.sizes):
            found, masks = self._candidates(predictions, image, scores[image].T)
            masks = enlarge(masks, canvas, size, batch.output_sizes[image], self.test_cfg.mask_thr)
            # MMDetection gives masks without boxes, and evaluation goes by the masks.
            boxes = found.scores.new_zeros(len(found), 4)
            detections.append(Detections(boxes=boxes, scores=found.scores, labels=found.labels, masks=masks))
        return detections

    def _candidates(
        self, predictions: SOLOPredictions, image: int, scores: Tensor
    ) -> tuple[Detections, Tensor]:
        """Choose among the cells' scores (sum of G_i^2, K) of one image.

        Returns:
            D detections, and the probabilities (D, h, w) of their masks on the first level.
        """
        cells, labels = (scores > self.test_cfg.score_thr).nonzero(as_tuple=True)
        found = scores[cells, labels]
        cells, which = unique(cells)
        masks, strides = self._masks_of(predictions, image, cells)
        # A mask's area and its mean probability belong to the cell, whatever its classes are.
        areas = (masks > self.test_cfg.mask_thr).flatten(1).sum(dim=1)
        maskness = (masks * (masks > self.test_cfg.mask_thr)).flatten(1).sum(dim=1) / areas
        large = (areas > strides)[which]
        which, labels = which[large], labels[large]
        found, order = (found[large] * maskness[which]).sort(descending=True, stable=True)
        if self.test_cfg.nms_pre > 0:
            found, order = found[: self.test_cfg.nms_pre], order[: self.test_cfg.nms_pre]
        which, labels = which[order], labels[order]
        if len(found) > 0:
            binary = masks[which] > self.test_cfg.mask_thr
            kernel, sigma = self.test_cfg.kernel, self.test_cfg.sigma
            found = matrix_nms(binary, found, labels, kernel=kernel, sigma=sigma)
        if self.test_cfg.filter_thr > 0:
            high = found >= self.test_cfg.filter_thr
            found, which, labels = found[high], which[high], labels[high]
        found, order = found.sort(descending=True, stable=True)
        if self.test_cfg.max_per_img > 0:
            found, order = found[: self.test_cfg.max_per_img], order[: self.test_cfg.max_per_img]
        boxes = found.new_zeros(len(found), 4)
        return Detections(boxes=boxes, scores=found, labels=labels[order]), masks[which[order]]

    def _masks_of(self, predictions: SOLOPredictions, image: int, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (n, h, w) and strides (n,) of cells that are counted through all levels."""
        masks: list[Tensor] = []
        strides: list[Tensor] = []
        start = 0
        for level, grid in enumerate(self.num_grids):
            chosen = cells[(cells >= start) & (cells < start + grid**2)] - start
            masks.append(self.cell_probabilities(predictions, image, level, chosen))
            strides.append(torch.full_like(chosen, self.strides[level]))
            start += grid**2
        return torch.cat(masks), torch.cat(strides)


def resize_features(features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The first level at half its size and the last at the size of the one before."""
    first, *between, last = features
    first = F.interpolate(first, scale_factor=0.5, mode="bilinear")
    return (first, *between, F.interpolate(last, size=between[-1].shape[-2:], mode="bilinear"))


def resized(masks: Tensor, size: torch.Size) -> Tensor:
    """Masks (n, h, w), perhaps none, at another (height, width)."""
    # Of masks as channels torch asks that there be one.
    return F.interpolate(masks[:, None], size=size, mode="bilinear")[:, 0]


def doubled(x: Tensor) -> Tensor:
    """(B, C, H, W) at twice its height and width."""
    return F.interpolate(x, scale_factor=2, mode="bilinear")


def _peaks(scores: Tensor) -> Tensor:
    """The scores (B, K, G, G) with 0 wherever the cell left, above or between them has a higher one."""
    highest = F.max_pool2d(scores, 2, stride=1, padding=1)[..., :-1, :-1]
    return scores * (highest == scores)
