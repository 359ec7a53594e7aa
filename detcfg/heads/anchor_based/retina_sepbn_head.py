"""RetinaNet's head with separate norms for each level.

Shapes: B images; features are (B, C, H_i, W_i); a anchors at each location; K classes.
"""

from __future__ import annotations

from typing import Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.config import derived, fill, is_unset
from detcfg.config.ranges import PositiveInt
from detcfg.heads.anchor_based.retina_head import RetinaHead, RetinaHeadConfig
from detcfg.heads.dense.towers import share_convs
from detcfg.layers.norm import BNConfig, NormConfig


@frozen(kw_only=True)
class RetinaSepBNHeadConfig(RetinaHeadConfig):
    """Levels share the convolutions of the towers, whose norms see only their level.

    From NAS-FPN (Ghiasi et al., 2019, https://arxiv.org/abs/1904.07392). Follows
    mmdet/models/dense_heads/retina_sepbn_head.py.
    """

    num_ins: PositiveInt = derived()
    """Levels that come in."""
    norm_cfg: NormConfig | None = BNConfig()
    """The norm after each convolution; None: a bias instead."""

    def wired(self) -> Self:
        wired = super().wired()
        if is_unset(wired.in_strides):
            return wired
        return fill(wired, "in_strides", num_ins=len(wired.in_strides))

    def tower(self) -> nn.ModuleList:
        """A tower for each level; the convolutions of all are those of the first."""
        towers = [super(RetinaSepBNHeadConfig, self).tower() for _ in self.in_strides]
        share_convs(towers)
        return nn.ModuleList(towers)

    def build(self) -> RetinaSepBNHead:
        return RetinaSepBNHead(self.resolved())


class RetinaSepBNHead(RetinaHead):
    """`cls_convs[i]` and `reg_convs[i]` are the towers of level i."""

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        classes, boxes = (
            convs.get_submodule(str(level))(feature) for convs in (self.cls_convs, self.reg_convs)
        )
        return self.retina_cls(classes), self.retina_reg(boxes)
