"""One stage of a cascade of region proposal networks.

Shapes: B images; features are (B, C, H_i, W_i); one anchor at each location, n_i of level i.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Self, cast

import torch
import torch.nn.functional as F
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.assigners.region import RegionAssignerConfig
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.pseudo import PseudoSamplerConfig
from detcfg.config import Config, ConfigError
from detcfg.config.ranges import PositiveInt
from detcfg.heads.dense.anchor_targets import Candidates, level_losses
from detcfg.heads.dense.levels import flatten_level, sizes_of
from detcfg.heads.proposal.rpn_head import RPNHead, RPNHeadConfig
from detcfg.layers.adaptive_conv import AdaptiveConv, anchor_offsets
from detcfg.layers.init import normal_init
from detcfg.precision import in_full_precision
from detcfg.structures import ImageBatch, Targets

LOSS_SHARE = 200
"""Where all anchors count, losses are divided by the number of anchors over this, as in guided anchoring."""


@frozen(kw_only=True)
class AdaptConfig(Config):
    """How the first convolution of a stage fits the anchors."""

    adapt_type: Literal["dilation", "offset"] = "dilation"
    """MMDetection's `type`: a dilated convolution, or a deformable one that looks where each location's anchor is."""
    dilation: PositiveInt = 3
    """Distance of the kernel's taps."""


@frozen(kw_only=True)
class StageCascadeRPNHeadConfig(RPNHeadConfig):
    """One stage (mmdet/models/dense_heads/cascade_rpn_head.py)."""

    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(scales=(8.0,), ratios=(1.0,))
    """The anchors of each level; its strides must be those of the feature maps."""
    adapt_cfg: AdaptConfig = AdaptConfig()
    """How the first convolution follows the anchors."""
    bridged_feature: bool = False
    """Whether the next stage reads this one's hidden features."""
    with_cls: bool = True
    """Whether it scores the anchors, as the last stage must."""
    assigner: AssignerConfig = RegionAssignerConfig()
    """Assigns ground-truth boxes to priors."""
    sampler: SamplerConfig = PseudoSamplerConfig()
    """Samples the positives and negatives that enter the loss."""

    def wired(self) -> Self:
        if self.num_convs != 1:
            raise ConfigError(
                f"num_convs is {self.num_convs}, but a stage has one convolution. Leave it out."
            )
        wired = super().wired()
        wired.anchor_generator.check_single("anchor_generator", type(self).__name__)
        return wired

    def build(self) -> StageCascadeRPNHead:
        return StageCascadeRPNHead(self.resolved())


class StageCascadeRPNHead(RPNHead):
    """A region proposal network with anchors that differ from image to image."""

    def __init__(self, config: StageCascadeRPNHeadConfig) -> None:
        super().__init__(config)
        self.adapts = config.adapt_cfg.adapt_type == "offset"
        self.bridged_feature = config.bridged_feature
        self.with_cls = config.with_cls
        scales = config.anchor_generator.scales
        self.anchor_scale = scales[0] if scales else config.anchor_generator.octave_base_scale or 1.0
        if not config.with_cls:
            del self.rpn_cls
        for layer in self.modules():
            if isinstance(layer, AdaptiveConv):
                normal_init(layer.conv, std=0.01)

    def _convs(self, config: RPNHeadConfig) -> nn.Module:
        adapt = cast("StageCascadeRPNHeadConfig", config).adapt_cfg
        return AdaptiveConv(config.in_channels, config.feat_channels, adapt.adapt_type, adapt.dilation)

    def forward(  # type: ignore[override]  # anchors come in
        self, features: tuple[Tensor, ...], anchors: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], tuple[tuple[Tensor, ...], ...]]:
        """The features for the next stage; logits, unless it has none, and deltas of each level."""
        strides = self.anchor_generator.strides
        hidden = tuple(
            F.relu(
                self.rpn_conv(x, anchor_offsets(level, stride, (x.shape[-2], x.shape[-1])))
                if self.adapts
                else self.rpn_conv(x)
            )
            for x, level, stride in zip(features, anchors, strides, strict=True)
        )
        scores = tuple(in_full_precision(self.rpn_cls, x) for x in hidden) if self.with_cls else ()
        deltas = tuple(in_full_precision(self.rpn_reg, x) for x in hidden)
        return hidden if self.bridged_feature else features, (scores, deltas)

    def stage_losses(
        self,
        predictions: tuple[tuple[Tensor, ...], ...],
        anchors: Sequence[Tensor],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> dict[str, Tensor]:
        """The losses of what `forward` predicts for anchors (B, n_i, 4)."""
        scores, deltas = predictions
        sizes = sizes_of(deltas)
        assign = partial(self.assign_in, sizes)
        anchor_targets = self.target_maker(anchors, sizes, batch, targets, assign=assign)
        if not anchor_targets.samplings[0].avg_factor_with_neg:
            share = anchor_targets.labels.numel() / LOSS_SHARE
            anchor_targets = evolve(anchor_targets, avg_factor=share)
        losses: dict[str, Tensor] = {}
        if self.with_cls:
            flat = self.flat_scores(scores)
            labels, label_weights = anchor_targets.labels, anchor_targets.label_weights
            losses["loss_rpn_cls"] = level_losses(self.loss_cls, anchor_targets, flat, labels, label_weights)
        losses["loss_rpn_reg"] = self.box_loss(deltas, anchors, anchor_targets)
        return losses

    def assign_in(
        self, featmap_sizes: Sequence[tuple[int, int]], candidates: Candidates, targets: Targets
    ) -> Assignment:
        """Assign the ground-truth boxes of one image to its candidates, on feature maps of these sizes."""
        if not isinstance(self.assigner, RegionAssignerConfig):
            return self.assign(candidates, targets)
        return self.assigner.assign(
            candidates.anchors,
            targets,
            num_level_priors=candidates.num_level_anchors,
            featmap_sizes=featmap_sizes,
            strides=self.anchor_generator.strides,
            anchor_scale=self.anchor_scale,
        )

    @torch.no_grad()
    def refined(
        self, deltas: Sequence[Tensor], anchors: Sequence[Tensor], batch: ImageBatch
    ) -> tuple[Tensor, ...]:
        """The anchors (B, n_i, 4) of the next stage."""
        return tuple(
            torch.stack(
                [
                    self.bbox_coder.decode(priors, pred, max_shape=size)
                    for priors, pred, size in zip(level, flatten_level(maps, 4), batch.sizes, strict=True)
                ]
            )
            for level, maps in zip(anchors, deltas, strict=True)
        )
