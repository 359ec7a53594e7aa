"""RetinaNet's head with norms of each level's own.

Shapes: B images; features are (B, C, H_i, W_i); a anchors at each place; K classes.
"""

from __future__ import annotations

from typing import Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.config import derived, fill, is_unset
from detcfg.heads.anchor_based.retina_head import RetinaHead, RetinaHeadConfig
from detcfg.layers.norm import BNConfig, NormConfig


@frozen(kw_only=True)
class RetinaSepBNHeadConfig(RetinaHeadConfig):
    """Levels share the convolutions of the stacks, whose norms see only their level.

    From NAS-FPN (Ghiasi et al., 2019, https://arxiv.org/abs/1904.07392). Follows
    mmdet/models/dense_heads/retina_sepbn_head.py.
    """

    num_ins: int = derived()
    """Levels that come in."""
    norm_cfg: NormConfig | None = BNConfig()
    """The norm after each convolution; None: a bias instead."""

    def wired(self) -> Self:
        wired = super().wired()
        if is_unset(wired.in_strides):
            return wired
        return fill(wired, "in_strides", num_ins=len(wired.in_strides))

    def build(self) -> RetinaSepBNHead:
        return RetinaSepBNHead(self.resolved())


class RetinaSepBNHead(RetinaHead):
    """`cls_convs[i]` and `reg_convs[i]` are the stacks of level i."""

    def stack(self, config: RetinaHeadConfig) -> nn.ModuleList:
        """A stack for each level; the convolutions of all are those of the first."""
        first = super().stack(config)
        others = [super(RetinaSepBNHead, self).stack(config) for _ in config.in_strides[1:]]
        for other in others:
            for layer, shared in zip(other.children(), first.children(), strict=True):
                layer.conv = shared.conv
        return nn.ModuleList((first, *others))

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        classes, boxes = (
            convs.get_submodule(str(level))(feature) for convs in (self.cls_convs, self.reg_convs)
        )
        return self.retina_cls(classes), self.retina_reg(boxes)
