"""A convolution with its norm and its activation (mmcv/cnn/bricks/conv_module.py)."""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import frozen
from torch import Tensor, nn

from detcfg.config.ranges import NonNegativeInt, PositiveInt
from detcfg.layers.activation import ActivationConfig, LeakyReLUConfig, ReLUConfig
from detcfg.layers.conv import ConvConfig, ConvSpec, build_conv
from detcfg.layers.init import constant_init, kaiming_init
from detcfg.layers.norm import NormConfig
from detcfg.layers.plugin import PluginLayerConfig

Step = Literal["conv", "norm", "act"]

RELU = ReLUConfig()


@frozen(kw_only=True)
class ConvModuleConfig(PluginLayerConfig):
    """A `ConvModule` that keeps the channels, to insert into another module."""

    abbr: ClassVar[str] = "conv_block"
    """Its name in MMDetection's state dicts."""

    kernel_size: PositiveInt = 3
    """Side of the square kernel."""
    padding: NonNegativeInt = 1
    """Zeros added at each side. The module keeps the size where it is dilation * (kernel_size - 1) / 2."""
    dilation: PositiveInt = 1
    """Pixels from one tap of the kernel to the next."""
    groups: PositiveInt = 1
    """Groups of channels that do not see each other."""
    bias: bool | Literal["auto"] = "auto"
    """Whether the convolution has a bias; "auto": exactly where there is no norm."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after the convolution; None: none."""
    act_cfg: ActivationConfig | None = RELU
    """The activation; None: none."""
    order: tuple[Step, Step, Step] = ("conv", "norm", "act")
    """The three steps; one that has no config drops out."""

    def build_for(self, channels: int) -> ConvModule:
        return ConvModule(
            channels,
            channels,
            self.kernel_size,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.bias,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            order=self.order,
        )


class ConvModule(nn.Module):
    """Convolution, norm and activation, in the given order.

    Its state dict has `conv.weight` and, where there is a norm, `bn.weight`, `gn.weight` or
    `ln.weight`. Weights are initialised by `kaiming_init`.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        kernel_size: Side of the square kernel.
        stride: Input pixels from one output pixel to the next.
        padding: Zeros added at each side.
        dilation: Pixels from one tap of the kernel to the next.
        groups: Groups of channels that do not see each other.
        bias: "auto" is a bias exactly where no norm follows.
        conv_cfg: The kind of convolution; None is the ordinary one.
        norm_cfg: The norm, or None.
        act_cfg: The activation, or None.
        order: The three steps in their order; a step that has no config drops out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool | Literal["auto"] = "auto",
        conv_cfg: ConvConfig | None = None,
        norm_cfg: NormConfig | None = None,
        act_cfg: ActivationConfig | None = RELU,
        order: tuple[Step, Step, Step] = ("conv", "norm", "act"),
    ) -> None:
        super().__init__()
        self.conv = build_conv(
            conv_cfg,
            ConvSpec(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                bias=norm_cfg is None if bias == "auto" else bias,
            ),
        )
        steps: dict[Step, str] = {"conv": "conv"}
        if norm_cfg is not None:
            steps["norm"] = norm_cfg.abbr
            norm_last = order.index("norm") > order.index("conv")
            self.add_module(norm_cfg.abbr, norm_cfg.build_for(out_channels if norm_last else in_channels))
        if act_cfg is not None:
            steps["act"] = "activate"
            self.activate = act_cfg.build()
        self._steps = tuple(steps[step] for step in order if step in steps)
        self._norm_name = steps.get("norm")
        self._init_weights(act_cfg)

    @property
    def norm(self) -> nn.Module | None:
        """The norm, whatever its name is."""
        return None if self._norm_name is None else self.get_submodule(self._norm_name)

    def forward(self, x: Tensor) -> Tensor:
        for name in self._steps:
            x = self._modules[name](x)  # type: ignore[misc]
        return x

    def _init_weights(self, act_cfg: ActivationConfig | None) -> None:
        if isinstance(self.conv, nn.Conv2d):  # a deformable convolution is initialised in its file
            if isinstance(act_cfg, LeakyReLUConfig):
                kaiming_init(self.conv, a=act_cfg.negative_slope, nonlinearity="leaky_relu")
            else:
                kaiming_init(self.conv)
        if self.norm is not None:
            constant_init(self.norm, 1)
