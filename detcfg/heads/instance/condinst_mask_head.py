"""The mask head of CondInst: a small network for each instance, whose weights were predicted.

Shapes: B images; features are (B, C, H_i, W_i); P instances of one image; mask features are (B, E, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import torch
import torch.nn.functional as F
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.config import Config, ConfigError, ModuleConfig, derived, fill, is_unset
from detcfg.config.ranges import CountOrAll, Fraction, NonEmpty, OneOrMoreLayers, PositiveInt
from detcfg.heads.instance.condinst_bbox_head import Instances
from detcfg.heads.instance.condinst_mask_feat import CondInstMaskFeatModuleConfig
from detcfg.layers.aligned_bilinear import aligned_bilinear
from detcfg.losses.base import LossConfig
from detcfg.losses.dice import DiceLossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.ops import unique
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class CondInstMaskTestConfig(Config):
    """How predicted masks become masks of the image."""

    mask_thr: Fraction = 0.5
    """A pixel belongs to an object above this probability."""


@frozen(kw_only=True)
class CondInstMaskHeadConfig(ModuleConfig):
    """Dynamic 1 x 1 convolutions (Tian et al., 2020, https://arxiv.org/abs/2003.05664).

    Follows `CondInstMaskHead` in mmdet/models/dense_heads/condinst_head.py.
    """

    in_channels: PositiveInt = derived()
    """Channels of every feature map."""
    in_strides: NonEmpty[PositiveInt] = derived()
    """Stride of each feature map."""
    mask_feature_head: CondInstMaskFeatModuleConfig = CondInstMaskFeatModuleConfig()
    """The features that the small networks see, beside coordinates."""
    num_layers: OneOrMoreLayers = 3
    """Layers of a small network."""
    feat_channels: PositiveInt = 8
    """Channels between its layers."""
    mask_out_stride: PositiveInt = 4
    """Pixels of the image to one of a predicted mask."""
    size_of_interest: PositiveInt = 8
    """The unit of an instance's coordinates, in strides of its level."""
    max_masks_to_train: CountOrAll = -1
    """Instances of an image that enter the loss at most, chosen at random; -1 for all."""
    topk_masks_per_img: CountOrAll = -1
    """Instances of an image that enter the loss, about, the best of each object; -1 for all."""
    loss_mask: LossConfig = DiceLossConfig(eps=5e-6)
    """Mask loss."""
    test_cfg: CondInstMaskTestConfig = CondInstMaskTestConfig()
    """How predictions become detections."""

    def wired(self) -> Self:
        if is_unset(self.in_strides):
            return self
        features = self.mask_feature_head
        if features.end_level >= len(self.in_strides):
            raise ConfigError(
                f"mask_feature_head.end_level is {features.end_level}, but in_strides is {self.in_strides}: "
                f"there are levels 0 to {len(self.in_strides) - 1}."
            )
        stride = self.in_strides[features.start_level]
        features = fill(features, "in_channels", in_channels=self.in_channels)
        features = fill(features, "in_strides", mask_stride=stride)
        if stride % self.mask_out_stride:
            raise ConfigError(
                f"mask_out_stride is {self.mask_out_stride}, which does not divide "
                f"mask_feature_head.mask_stride, {stride}."
            )
        return evolve(self, mask_feature_head=features)

    @property
    def layer_sizes(self) -> tuple[tuple[int, int], ...]:
        """Channels in and out of each layer of a small network."""
        hidden = (self.feat_channels,) * (self.num_layers - 1)
        return tuple(pairwise((self.mask_feature_head.out_channels + 2, *hidden, 1)))

    @property
    def num_params(self) -> int:
        """The numbers that a small network consists of: the weights of all layers, then the biases."""
        return sum(size * out + out for size, out in self.layer_sizes)

    def build(self) -> CondInstMaskHead:
        return CondInstMaskHead(self.resolved())


class CondInstMaskHead(nn.Module):
    """`mask_feature_head` has all the weights that are not predicted."""

    def __init__(self, config: CondInstMaskHeadConfig) -> None:
        super().__init__()
        features = config.mask_feature_head
        self.mask_feature_head = features.build()
        self.layer_sizes = config.layer_sizes
        self.enlargement = features.mask_stride // config.mask_out_stride
        self.mask_out_stride = config.mask_out_stride
        self.size_of_interest = config.size_of_interest
        self.max_masks_to_train = config.max_masks_to_train
        self.topk_masks_per_img = config.topk_masks_per_img
        self.prior_generator = MlvlPointGeneratorConfig(strides=(features.mask_stride,))
        self.loss_mask = config.loss_mask.build()
        self.mask_thr = config.test_cfg.mask_thr

    def forward(self, mask_features: Tensor, instances: Instances) -> Tensor:
        """The mask logits (P, H, W) of one image, from its mask features (E, h, w)."""
        height, width = mask_features.shape[-2:]
        (locations,) = self.prior_generator.grid_priors([(height, width)], mask_features.device)
        unit = (instances.strides * self.size_of_interest)[:, None, None]
        coordinates = (instances.points[:, :, None] - locations.T) / unit  # (P, 2, h * w)
        shared = mask_features.flatten(1).expand(len(instances), -1, -1)
        masks = self.network(torch.cat((coordinates, shared), dim=1), instances.params)
        return aligned_bilinear(masks.reshape(len(masks), 1, height, width), self.enlargement)[:, 0]

    def network(self, x: Tensor, params: Tensor) -> Tensor:
        """The network of each instance, with `params` (P, Q), on its input (P, E + 2, n): (P, 1, n)."""
        weights_and_biases = torch.split(
            params, [size * out for size, out in self.layer_sizes] + [out for _, out in self.layer_sizes], 1
        )
        depth = len(self.layer_sizes)
        for layer, (size, out) in enumerate(self.layer_sizes):
            weight = weights_and_biases[layer].reshape(-1, out, size)
            bias = weights_and_biases[depth + layer][:, :, None]
            x = torch.baddbmm(bias, weight, x)
            x = x if layer == depth - 1 else x.relu()
        return x

    def loss(
        self, features: tuple[Tensor, ...], found: Sequence[Instances], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The loss of the masks of the positives."""
        total = features[0].new_zeros(())
        count = 0
        images = zip(self.mask_feature_head(features), found, targets, strict=True)
        for mask_features, instances, objects in images:
            sampled = instances[self._sampled(instances)]
            masks = self(mask_features, sampled)
            gt_masks = self._gt_masks(objects.not_ignored, (masks.shape[-2], masks.shape[-1]))
            losses = self.loss_mask(masks, gt_masks[sampled.gt_inds], reduction_override="none")
            total = total + losses.sum()
            count += len(sampled)
        return {"loss_mask": total / shared_factor(count, total)}

    def _gt_masks(self, objects: Targets, size: tuple[int, int]) -> Tensor:
        """The masks (N, *size) float of objects at every `mask_out_stride`-th pixel."""
        if objects.masks is None:
            raise ValueError(
                "CondInst is trained with masks, and the targets have none. Load the data with masks."
            )
        step = self.mask_out_stride
        masks = objects.masks[:, step // 2 :: step, step // 2 :: step]
        right, below = size[1] - masks.shape[-1], size[0] - masks.shape[-2]
        return F.pad(masks.float(), (0, right, 0, below))

    def _sampled(self, instances: Instances) -> Tensor:
        """Indices of the instances that enter the loss, since the masks of all would take much memory."""
        count = len(instances)
        if self.max_masks_to_train != -1 and count > self.max_masks_to_train:
            return torch.randperm(count, device=instances.points.device)[: self.max_masks_to_train]
        if self.topk_masks_per_img == -1 or count == 0:
            return torch.arange(count, device=instances.points.device)
        objects, which = unique(instances.gt_inds)
        each = max(self.topk_masks_per_img // len(objects), 1)
        order = instances.scores.argsort(descending=True)
        order = order[which[order].argsort(stable=True)]  # object by object, the best first
        counts = which.bincount(minlength=len(objects))
        first = counts.cumsum(0) - counts
        rank = torch.arange(count, device=order.device) - first[which[order]]
        return order[rank < each]

    def predict(
        self, features: tuple[Tensor, ...], found: Sequence[Instances], batch: ImageBatch
    ) -> list[Tensor]:
        """The masks (P, H, W) bool of each image in output pixels."""
        images = zip(self.mask_feature_head(features), found, batch.sizes, batch.output_sizes, strict=True)
        return [self._image_masks(self(x, instances), *sizes) for x, instances, *sizes in images]

    def _image_masks(self, masks: Tensor, size: tuple[int, int], output_size: tuple[int, int]) -> Tensor:
        """The logits (P, h, w) of one image as masks (P, *output_size) bool."""
        pieces = [
            F.interpolate(
                aligned_bilinear(piece.sigmoid(), self.mask_out_stride)[..., : size[0], : size[1]],
                output_size,
                mode="bilinear",
            )[:, 0]
            > self.mask_thr
            for piece in torch.split(masks[:, None], 16)
        ]
        return torch.cat(pieces)
