"""The head of RetinaNet.

Shapes: B images; features are (B, C, H_i, W_i); a anchors at each place, K classes.
"""

from __future__ import annotations

from attrs import field, frozen, validators
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.towers import init_classifier, init_convs, tower_of
from detcfg.layers.conv import ConvConfig
from detcfg.layers.norm import NormConfig
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.l1 import L1LossConfig


@frozen(kw_only=True)
class RetinaHeadConfig(AnchorHeadConfig):
    """Two stacks of convolutions, one for classes, one for boxes (Lin et al., 2017).

    https://arxiv.org/abs/1708.02002. Follows mmdet/models/dense_heads/retina_head.py.
    """

    stacked_convs: int = field(default=4, validator=validators.ge(0))
    """Layers of each stack."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        octave_base_scale=4, scales_per_octave=3, ratios=(0.5, 1.0, 2.0)
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """The loss of the class scores; also says how scores become probabilities."""
    loss_bbox: LossConfig = L1LossConfig()
    """The loss of the boxes."""

    def build(self) -> RetinaHead:
        return RetinaHead(self.resolved())


class RetinaHead(AnchorHead):
    """The same layers for every level."""

    def __init__(self, config: RetinaHeadConfig) -> None:
        super().__init__(config)
        self.cls_convs, self.reg_convs = self.stack(config), self.stack(config)
        channels = config.feat_channels if config.stacked_convs else config.in_channels
        self.retina_cls = nn.Conv2d(channels, self.num_base_priors * self.cls_out_channels, 3, padding=1)
        self.retina_reg = nn.Conv2d(
            channels, self.num_base_priors * self.bbox_coder.encode_size, 3, padding=1
        )
        init_convs(self)
        init_classifier(self.retina_cls)

    def stack(self, config: RetinaHeadConfig) -> nn.Module:
        """The layers before a predictor."""
        return tower_of(config)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        del level
        return self.retina_cls(self.cls_convs(feature)), self.retina_reg(self.reg_convs(feature))
