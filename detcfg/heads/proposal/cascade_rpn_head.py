"""Region proposals in stages, each of which refines the anchors of the one before.

Shapes: B images; features are (B, C, H_i, W_i); one anchor at each location, n_i of level i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, cast

from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, fill, is_unset
from detcfg.config.ranges import OneOrMoreLayers
from detcfg.heads.dense.levels import sizes_of
from detcfg.heads.proposal.base import ProposalHead, ProposalHeadConfig, as_one_class, in_output_pixels
from detcfg.heads.proposal.rpn_head import RPNTestConfig
from detcfg.heads.proposal.stage_cascade_rpn_head import (
    AdaptConfig,
    StageCascadeRPNHead,
    StageCascadeRPNHeadConfig,
)
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class CascadeRPNHeadConfig(ProposalHeadConfig):
    """Cascade RPN (Vu et al., 2019, https://arxiv.org/abs/1909.06720)."""

    num_stages: OneOrMoreLayers = 2
    """Heads in a row."""
    stages: tuple[StageCascadeRPNHeadConfig, ...] = (
        StageCascadeRPNHeadConfig(bridged_feature=True, with_cls=False, reg_decoded_bbox=True),
        StageCascadeRPNHeadConfig(adapt_cfg=AdaptConfig(adapt_type="offset"), reg_decoded_bbox=True),
    )
    """Each refines the anchors of the one before."""
    rpn_proposal: RPNTestConfig = RPNTestConfig(nms_pre=2000)
    """How proposals are chosen in training."""
    test_cfg: RPNTestConfig = RPNTestConfig()
    """How proposals are chosen in testing."""

    def wired(self) -> Self:
        if self.num_stages != len(self.stages):
            raise ConfigError(f"num_stages is {self.num_stages}, but stages has {len(self.stages)} configs.")
        if not self.stages[-1].with_cls:
            raise ConfigError("stages: the last one has with_cls=False, but proposals need its scores.")
        return evolve(self, stages=tuple(self._filled(stage) for stage in self.stages))

    def _filled(self, stage: StageCascadeRPNHeadConfig) -> StageCascadeRPNHeadConfig:
        """A stage with what holds for all, so that what is shown is what counts."""
        if not is_unset(self.in_channels):
            stage = fill(stage, "in_channels", in_channels=self.in_channels)
            stage = fill(stage, "in_strides", in_strides=self.in_strides)
        return evolve(stage, rpn_proposal=self.rpn_proposal, test_cfg=self.test_cfg)

    def build(self) -> CascadeRPNHead:
        return CascadeRPNHead(self.resolved())


class CascadeRPNHead(ProposalHead):
    def __init__(self, config: CascadeRPNHeadConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stage.build() for stage in config.stages)
        self.rpn_proposal = config.rpn_proposal
        self.test_cfg = config.test_cfg

    def forward(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[StageOutput]:
        """What each stage predicts."""
        outputs: list[StageOutput] = []
        first = cast("StageCascadeRPNHead", self.stages[0])
        grid = first.anchor_generator.grid_priors(sizes_of(features), features[0].device)
        anchors = tuple(level.expand(len(batch), -1, -1) for level in grid)
        for module in self.stages:
            stage = cast("StageCascadeRPNHead", module)
            if outputs:
                anchors = outputs[-1].refined(batch)
            features, predictions = stage(features, anchors)
            outputs.append(StageOutput(stage, anchors, predictions))
        return outputs

    def loss_and_proposals(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        objects = as_one_class(targets)
        outputs = self(features, batch)
        losses = {
            f"s{index}.{name}": value
            for index, output in enumerate(outputs)
            for name, value in output.losses(batch, objects).items()
        }
        return losses, outputs[-1].proposals(batch, self.rpn_proposal)

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        losses, _ = self.loss_and_proposals(features, batch, targets)
        return losses

    def proposals(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        outputs: list[StageOutput] = self(features, batch)
        return outputs[-1].proposals(batch, self.test_cfg)

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return in_output_pixels(self.proposals(features, batch), batch)


@frozen(eq=False)
class StageOutput:
    """What a stage predicts."""

    stage: StageCascadeRPNHead
    anchors: Sequence[Tensor]
    """(B, n_i, 4) of each level."""
    predictions: tuple[tuple[Tensor, ...], ...]
    """Logits, which a stage may do without, and deltas."""

    def losses(self, batch: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The stage's losses."""
        return self.stage.stage_losses(self.predictions, self.anchors, batch, targets)

    def refined(self, batch: ImageBatch) -> tuple[Tensor, ...]:
        """The anchors of the next stage."""
        return self.stage.refined(self.predictions[1], self.anchors, batch)

    def proposals(self, batch: ImageBatch, test_cfg: RPNTestConfig) -> list[Detections]:
        """The proposals of each image in network pixels."""
        return self.stage.select_proposals(self.predictions, batch, test_cfg, self.anchors)
