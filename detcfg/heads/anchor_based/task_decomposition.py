"""A mixture of the layers of a tower that suits one task."""

from __future__ import annotations

from torch import Tensor, nn

from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import normal_init
from detcfg.layers.norm import NormConfig


class TaskDecomposition(nn.Module):
    """Weighs the layers of a tower by what they hold on average, and reduces them to one (TOOD).

    Shapes: all layers side by side (B, L * C, H, W) and their means (B, L * C, 1, 1) to (B, C, H, W).

    Args:
        feat_channels: C.
        stacked_convs: L.
        la_down_rate: The weights come from L * C / `la_down_rate` hidden channels.
        conv_cfg: The kind of the reducing convolution.
        norm_cfg: The norm behind it.

    Follows mmdet/models/dense_heads/tood_head.py.
    """

    def __init__(
        self,
        feat_channels: int,
        stacked_convs: int,
        la_down_rate: int = 8,
        *,
        conv_cfg: ConvConfig | None = None,
        norm_cfg: NormConfig | None = None,
    ) -> None:
        super().__init__()
        self.feat_channels, self.stacked_convs = feat_channels, stacked_convs
        channels = feat_channels * stacked_convs
        self.layer_attention = nn.Sequential(
            nn.Conv2d(channels, channels // la_down_rate, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // la_down_rate, stacked_convs, 1),
            nn.Sigmoid(),
        )
        self.reduction_conv = ConvModule(channels, feat_channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        for layer in self.layer_attention:
            if isinstance(layer, nn.Conv2d):
                normal_init(layer, std=0.001)
        normal_init(self.reduction_conv.conv, std=0.01)

    def forward(self, layers: Tensor, mean: Tensor) -> Tensor:
        batch, channels, height, width = layers.shape
        attention = self.layer_attention(mean).reshape(batch, 1, self.stacked_convs, 1)
        # To weigh the convolution's weights costs less than to weigh the features. Its bias is not used.
        shape = (1, self.feat_channels, self.stacked_convs, self.feat_channels)
        kernel = attention * self.reduction_conv.conv.get_parameter("weight").reshape(shape)
        reduced: Tensor = kernel.reshape(batch, self.feat_channels, channels) @ layers.flatten(2)
        reduced = reduced.reshape(batch, self.feat_channels, height, width)
        if self.reduction_conv.norm is not None:
            reduced = self.reduction_conv.norm(reduced)
        return reduced.relu()
