"""One stage of a ResNet on pooled features, as in the C4 detectors.

Shapes: R rois; S the side of pooled features.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from annotated_types import Ge, Le
from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.resnet import Depth, ResNetConfig
from detcfg.config import ConfigError, is_unset
from detcfg.config.ranges import PositiveInt
from detcfg.heads.roi.shared_head import SharedHeadConfig
from detcfg.layers.deform_conv import DeformConv2dPack, DeformConvConfig
from detcfg.layers.init import kaiming_init
from detcfg.layers.norm import BNConfig, NormConfig, eval_batch_norms


@frozen(kw_only=True)
class ResLayerConfig(SharedHeadConfig):
    """The ResNet stage that a C4 detector applies to each roi rather than to the image.

    From Faster R-CNN (Ren et al., 2015, https://arxiv.org/abs/1506.01497). Follows
    mmdet/models/roi_heads/shared_heads/res_layer.py.
    """

    depth: Depth = 50
    """Depth of the ResNet that this is a stage of."""
    stage: Annotated[int, Ge(1), Le(3)] = 3
    """The stage, counted from 0; the backbone has those before it."""
    stride: PositiveInt = 2
    """Stride of the stage's first block."""
    dilation: PositiveInt = 1
    """Dilation of the 3x3 convolutions."""
    style: Literal["pytorch", "caffe"] = "pytorch"
    """Whether the 3x3 ("pytorch") or the first 1x1 ("caffe") convolution of a block has the stride."""
    norm_cfg: NormConfig = BNConfig()
    """The norm after each convolution."""
    norm_eval: bool = True
    """Batch norms use their running statistics in training too."""
    with_cp: bool = False
    """Activation (gradient) checkpointing: recompute activations in the backward pass."""
    dcn: DeformConvConfig | None = None
    """Deformable convolutions in place of the 3x3 convolutions; None: ordinary ones."""

    def wired(self) -> Self:
        wired = super().wired()
        before = wired.resnet.stage_channels[wired.stage - 1]
        if not is_unset(wired.in_channels) and wired.in_channels != before:
            raise ConfigError(
                f"in_channels is {wired.in_channels}, but stage {wired.stage} of a ResNet-{wired.depth} reads "
                f"{before} channels. Give the backbone out_indices=({wired.stage - 1},), or change the depth."
            )
        return wired

    @property
    def resnet(self) -> ResNetConfig:
        """The ResNet up to this stage."""
        before = self.stage
        return ResNetConfig(
            depth=self.depth,
            num_stages=before + 1,
            strides=(1,) * before + (self.stride,),
            dilations=(1,) * before + (self.dilation,),
            out_indices=(before,),
            style=self.style,
            norm_cfg=self.norm_cfg,
            with_cp=self.with_cp,
            dcn=self.dcn,
            stage_with_dcn=(False,) * before + (self.dcn is not None,),
        )

    @property
    def feature_channels(self) -> int:
        return self.resnet.stage_channels[self.stage]

    @property
    def feature_size(self) -> int:
        return -(-self.roi_feat_size // self.stride)

    def build(self) -> ResLayer:
        return ResLayer(self.resolved())


class ResLayer(nn.Module):
    """Pooled features (R, C, S, S) to (R, C', S / stride, S / stride), by `layer4` or an earlier stage."""

    def __init__(self, config: ResLayerConfig) -> None:
        super().__init__()
        self.norm_eval = config.norm_eval
        resnet = config.resnet.resolved()
        blocks = [resnet.make_block(plan) for plan in resnet.block_plans(config.stage)]
        self._name = f"layer{config.stage + 1}"
        self.add_module(self._name, nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                kaiming_init(module)
        for module in self.modules():
            if isinstance(module, DeformConv2dPack):
                module.reset_offset()
        self.train()

    def forward(self, pooled: Tensor) -> Tensor:
        features: Tensor = self.get_submodule(self._name)(pooled)
        return features

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  # the signature is nn.Module's
        super().train(mode)
        if self.norm_eval:
            eval_batch_norms(self)
        return self
