"""A stack of linear layers, as transformers for detection have it."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from detcfg.layers.activation import ActivationConfig, ReLUConfig

RELU = ReLUConfig()


class MLP(nn.Module):
    """Linear layers with an activation between them. (…, in_channels) to (…, out_channels).

    Args:
        in_channels: Channels that come in.
        hidden_channels: Channels in between.
        out_channels: Channels that go out.
        num_layers: Linear layers, at least one.
        act_cfg: The activation.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        act_cfg: ActivationConfig = RELU,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [out_channels]
        self.layers = nn.ModuleList(nn.Linear(first, second) for first, second in pairwise(widths))
        self.act = act_cfg.build()

    @property
    def last(self) -> nn.Linear:
        """The last layer, which initialisations set."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        return last

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = self.act(layer(x))
        out: Tensor = last(x)
        return out
