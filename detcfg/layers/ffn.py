"""The feed-forward network of a transformer (mmcv/cnn/bricks/transformer.py)."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ModuleConfig, derived
from detcfg.config.ranges import PositiveInt, ProperFraction
from detcfg.layers.activation import ActivationConfig, ReLUConfig
from detcfg.layers.drop_path import DropPath

RELU = ReLUConfig()


@frozen(kw_only=True)
class FFNConfig(ModuleConfig):
    """The feed-forward network of a layer of a transformer, with its shortcut."""

    embed_dims: PositiveInt = derived()
    """Channels that come in and go out."""
    feedforward_channels: PositiveInt = 1024
    """Channels in between."""
    num_fcs: PositiveInt = 2
    """Linear layers, at least two; 1 counts as 2."""
    act_cfg: ActivationConfig = RELU
    """The activation behind all of them but the last."""
    ffn_drop: ProperFraction = 0.0
    """Probability that a value behind a linear layer is left out in training."""

    def build(self) -> FFN:
        config = self.resolved()
        return FFN(
            config.embed_dims,
            config.feedforward_channels,
            num_fcs=config.num_fcs,
            act_cfg=config.act_cfg,
            ffn_drop=config.ffn_drop,
        )


class FFN(nn.Module):
    """Linear layers applied to each token, with a shortcut.

    Shapes: (…, embed_dims) to the same.

    Args:
        embed_dims: Channels that come in and go out.
        feedforward_channels: Channels in between.
        num_fcs: Linear layers, at least two.
        act_cfg: The activation behind all of them but the last.
        ffn_drop: Dropout probability, 0 to 1.
        drop_path: Probability of stochastic depth: that a sample skips the layers in training, 0 to 1.
        add_identity: Whether the input is added.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        feedforward_channels: int = 1024,
        *,
        num_fcs: int = 2,
        act_cfg: ActivationConfig = RELU,
        ffn_drop: float = 0.0,
        drop_path: float = 0.0,
        add_identity: bool = True,
    ) -> None:
        super().__init__()
        widths = [embed_dims] + [feedforward_channels] * (num_fcs - 1)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(width, feedforward_channels), act_cfg.build(), nn.Dropout(ffn_drop))
                for width in widths[:-1]
            ),
            nn.Linear(widths[-1], embed_dims),
            nn.Dropout(ffn_drop),
        )
        self.dropout_layer = DropPath(drop_path)
        self.add_identity = add_identity

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """The output, with `identity` added instead of `x` where it is given."""
        out: Tensor = self.dropout_layer(self.layers(x))
        if not self.add_identity:
            return out
        return out + (x if identity is None else identity)
