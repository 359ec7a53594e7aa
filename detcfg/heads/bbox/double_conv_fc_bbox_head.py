"""The bbox head of Double-Head R-CNN: linear layers classify, convolutions regress.

Shapes: R rois, C channels, S the side of pooled features, D = `conv_out_channels`.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from attrs import evolve, frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.backbones.residual import BlockPlan, Bottleneck
from detcfg.backbones.resnet import ResNetConfig
from detcfg.config.ranges import NumLayers, PositiveInt
from detcfg.heads.bbox.bbox_head import BBoxHead, BBoxHeadConfig
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import xavier_init
from detcfg.layers.norm import BNConfig, NormConfig
from detcfg.precision import in_full_precision


@frozen(kw_only=True)
class DoubleConvFCBBoxHeadConfig(BBoxHeadConfig):
    """A regression branch of convolutions beside a classification branch of linear layers.

    From Double-Head R-CNN (Wu et al., 2020, https://arxiv.org/abs/1904.06493). Follows
    mmdet/models/roi_heads/bbox_heads/double_bbox_head.py.
    """

    num_convs: NumLayers = 4
    """Bottleneck blocks of the regression branch, after one residual block that widens C channels to D."""
    num_fcs: NumLayers = 2
    """Linear layers of the classification branch."""
    conv_out_channels: Annotated[int, Ge(4)] = 1024
    """D: channels of the regression branch."""
    fc_out_channels: PositiveInt = 1024
    """Channels of the classification branch."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig = BNConfig()
    """The norm after each convolution. Residual blocks need one."""

    def build(self) -> DoubleConvFCBBoxHead:
        return DoubleConvFCBBoxHead(self.resolved())


class DoubleConvFCBBoxHead(BBoxHead):
    """Two sets of pooled features (R, C, S, S), one a branch, to logits and box deltas."""

    def __init__(self, config: DoubleConvFCBBoxHeadConfig) -> None:
        super().__init__(config)
        self.res_block = BasicResBlock(config)
        self.conv_branch = nn.ModuleList(_bottleneck(config) for _ in range(config.num_convs))
        width = config.in_channels * config.roi_feat_size**2
        self.fc_branch = nn.ModuleList()
        for _ in range(config.num_fcs):
            layer = nn.Linear(width, config.fc_out_channels)
            xavier_init(layer, distribution="uniform")
            self.fc_branch.append(layer)
            width = config.fc_out_channels
        self.add_predictors(config, width, config.conv_out_channels)

    def forward(self, x_cls: Tensor, /, x_reg: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`x_cls` and `x_reg` (R, C, S, S) are pooled for the two branches; by default both read `x_cls`."""
        hidden: Tensor = self.res_block(x_cls if x_reg is None else x_reg)
        for block in self.conv_branch:
            hidden = block(hidden)
        bbox_pred = in_full_precision(self.fc_reg, hidden.mean(dim=(2, 3)))
        flat = x_cls.flatten(1)
        for layer in self.fc_branch:
            flat = F.relu(layer(flat))
        cls_score = in_full_precision(self.fc_cls, flat)
        return cls_score, bbox_pred


class BasicResBlock(nn.Module):
    """(R, C, S, S) to (R, D, S, S): a residual block with a 1x1 convolution in its shortcut."""

    def __init__(self, config: DoubleConvFCBBoxHeadConfig) -> None:
        super().__init__()
        narrow, wide = config.in_channels, config.conv_out_channels
        conv, norm = config.conv_cfg, config.norm_cfg
        self.conv1 = ConvModule(narrow, narrow, 3, padding=1, bias=False, conv_cfg=conv, norm_cfg=norm)
        self.conv2 = ConvModule(narrow, wide, 1, bias=False, conv_cfg=conv, norm_cfg=norm, act_cfg=None)
        self.conv_identity = ConvModule(narrow, wide, 1, conv_cfg=conv, norm_cfg=norm, act_cfg=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(self.conv1(x)) + self.conv_identity(x))


def _bottleneck(config: DoubleConvFCBBoxHeadConfig) -> Bottleneck:
    """ResNet's block at one width."""
    wide = config.conv_out_channels
    block = evolve(ResNetConfig(), conv_cfg=config.conv_cfg, norm_cfg=config.norm_cfg)
    plan = BlockPlan(
        stage=0,
        in_channels=wide,
        mid_channels=wide // 4,
        out_channels=wide,
        stride=1,
        dilation=1,
        first=False,
    )
    return Bottleneck(block, plan)
