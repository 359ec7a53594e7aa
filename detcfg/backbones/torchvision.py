"""Any classifier of torchvision as a backbone.

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each of the nodes, finest first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, Self

import torch
from attrs import frozen
from torch import Tensor, fx, nn

from detcfg.backbones.base import BackboneConfig, StagedBackbone
from detcfg.backbones.meta import weights_on_meta
from detcfg.config import ConfigError, did_you_mean
from detcfg.config.ranges import IntOrOff

STRIDES: Final = (4, 8, 16, 32)
"""Strides whose last maps are given where no nodes are named."""
PROBE: Final = (1024, 1536)
"""Height and width of the image that is traced: large, so that borders count for little."""

HEADS: Final = ("classifier", "fc", "head", "heads")
"""Names of torchvision's classification heads."""


@frozen(kw_only=True)
class TorchvisionBackboneConfig(BackboneConfig):
    """A classifier of torchvision, cut off where it stops giving maps.

    The model is traced on the meta device, so that its channels and strides are known before it has
    weights. One that takes images of a single size, as vision transformers do, is refused.
    """

    name: str
    """As `torchvision.models.get_model` takes it: "efficientnet_b0", "convnext_tiny" …"""
    return_nodes: tuple[str, ...] = ()
    """Nodes or modules whose outputs are given, as torchvision.models.feature_extraction names them;
    none: the last block's at each of the strides 4, 8, 16 and 32."""
    frozen_stages: IntOrOff = 0
    """Freeze the backbone up to this many of its feature maps."""
    norm_eval: bool = True
    """Batch norms use their running statistics in training too."""

    def wired(self) -> Self:
        if self.frozen_stages > len(self.maps):
            raise ConfigError(
                f"frozen_stages is {self.frozen_stages}, but there are {len(self.maps)} maps: "
                f"{', '.join(m.node for m in self.maps)}."
            )
        return super().wired()

    @property
    def maps(self) -> tuple[FeatureMap, ...]:
        """The feature maps that come out."""
        traced = trace(self.name)
        if not self.return_nodes:
            return tuple(traced.blocks[stride] for stride in STRIDES if stride in traced.blocks)
        for node in self.return_nodes:
            if node not in traced.maps:
                hint = did_you_mean(node, traced.maps)
                raise ConfigError(
                    f"return_nodes has {node!r}, which is no feature map of {self.name}. {hint}"
                )
        return tuple(traced.maps[node] for node in self.return_nodes)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(m.channels for m in self.maps)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return tuple(m.stride for m in self.maps)

    def build(self) -> TorchvisionBackbone:
        return TorchvisionBackbone(self.resolved())


class FeatureMap(NamedTuple):
    """The output of a node."""

    node: str
    """Its name."""
    channels: int
    """Channels of the map."""
    stride: int
    """Pixels of the input to one cell of the map."""
    channels_last: bool
    """Whether it is (B, H, W, C)."""


class Traced(NamedTuple):
    """The graph of a model, and the maps in it."""

    maps: dict[str, FeatureMap]
    """By the name of the node."""
    blocks: dict[int, FeatureMap]
    """By stride: the last one that is the output of a block."""
    nodes: dict[str, fx.Node]
    """All nodes by name."""


class TorchvisionBackbone(StagedBackbone):
    """The part of the classifier that the maps need, as `body`, under torchvision's names."""

    def __init__(self, config: TorchvisionBackboneConfig) -> None:
        from torchvision.models.feature_extraction import create_feature_extractor

        super().__init__()
        self.norm_eval = config.norm_eval
        self.maps = config.maps
        nodes = [m.node for m in self.maps]
        model = make(config.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the graph of training may hold more than is needed here
            self.body: nn.Module = create_feature_extractor(model, nodes, tracer_kwargs=tracer_arguments())
        self._frozen, parameters = upstream(config.name, nodes[: config.frozen_stages])
        for name in parameters:
            self.body.get_parameter(name).requires_grad = False
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs: dict[str, Tensor] = self.body(images)
        return tuple(
            outputs[m.node].permute(0, 3, 1, 2).contiguous() if m.channels_last else outputs[m.node]
            for m in self.maps
        )

    def frozen_modules(self) -> list[nn.Module]:
        return [self.body.get_submodule(name) for name in self._frozen]

    def rename_pretrained(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's names with `body.` before them."""
        return {f"body.{name}": tensor for name, tensor in tensors.items()}


def make(name: str) -> nn.Module:
    """A model of torchvision with random weights.

    Raises:
        ConfigError: There is no such model.
    """
    from torchvision import models

    if name not in (known := models.list_models(module=models)):
        raise ConfigError(
            f"name is {name!r}, which is no classifier of torchvision. {did_you_mean(name, known)}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some announce that their first weights will change
        return models.get_model(name)


def tracer_arguments() -> dict[str, Any]:
    """What is traced as one node, and so decides how nodes are called."""
    from torchvision import ops

    modules = [kind for kind in vars(ops).values() if isinstance(kind, type) and issubclass(kind, nn.Module)]
    return {"leaf_modules": modules, "autowrap_modules": (math, ops)}


@lru_cache
def trace(name: str) -> Traced:
    """The maps of a model of torchvision, with nothing allocated.

    Raises:
        ConfigError: There is no such model, or it takes no images of any size.
    """
    from torchvision.models.feature_extraction import NodePathTracer

    with weights_on_meta():
        model = make(name).eval()
    tracer = NodePathTracer(**tracer_arguments())
    try:
        graph = tracer.trace(model)
        shapes = _Shapes(fx.GraphModule(model.to("meta"), graph))
        shapes.run(torch.empty(1, 3, *PROBE, device="meta"))
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ConfigError(
            f"name is {name!r}, which does not take images of any size ({str(error).splitlines()[0]}). "
            "Choose a convolutional model, or a Swin."
        ) from error
    nodes = {tracer.node_to_qualname[node]: node for node in graph.nodes if node in tracer.node_to_qualname}
    body = {name: node for name, node in nodes.items() if name.split(".")[0] not in HEADS}
    maps = {
        name: feature_map
        for name, node in body.items()
        if node in shapes.shapes and (feature_map := _feature_map(name, shapes.shapes[node])) is not None
    }
    narrow = _narrow(list(graph.nodes), shapes.shapes)
    blocks = {
        maps[this].stride: maps[this]
        for this, after in pairwise(nodes)
        if this in maps and nodes[this] in narrow and _ends(this, after)
    }
    return Traced(maps, blocks, nodes)


def _narrow(nodes: list[fx.Node], shapes: Mapping[fx.Node, object]) -> set[fx.Node]:
    """The nodes on which alone everything behind them depends."""
    position = {node: index for index, node in enumerate(nodes)}
    narrow, last_use = set[fx.Node](), 0
    for index, node in enumerate(nodes):
        if last_use <= index:
            narrow.add(node)
        if node in shapes and node.op != "get_attr":  # sizes and parameters are no features
            last_use = max([last_use, *(position[user] for user in node.users)])
    return narrow


class _Shapes(fx.Interpreter):
    """Remembers the shape that each node gives."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        out = super().run_node(n)
        if isinstance(out, Tensor):
            self.shapes[n] = tuple(out.shape)
        return out


def _ends(this: str, after: str) -> bool:
    """Whether a block ends between two nodes: `layer1.2.relu_2` and `layer2.0.conv1`."""
    return this.split(".")[:2] != after.split(".")[:2]


def _feature_map(node: str, shape: tuple[int, ...]) -> FeatureMap | None:
    if len(shape) != 4:
        return None
    for channels, size in ((1, shape[2:]), (3, shape[1:3])):
        ratios = [probe / max(side, 1) for probe, side in zip(PROBE, size, strict=True)]
        stride = 2 ** round(math.log2(ratios[0]))
        if stride > 1 and all(abs(ratio / stride - 1) < 0.15 for ratio in ratios):
            return FeatureMap(node, shape[channels], stride, channels_last=channels == 3)
    return None


def upstream(name: str, nodes: Iterable[str]) -> tuple[list[str], list[str]]:
    """The modules that are run for certain nodes of a model, and the parameters that are read directly."""
    traced = trace(name)
    left, seen = [traced.nodes[node] for node in nodes], set[fx.Node]()
    while left:
        node = left.pop()
        if node not in seen:
            seen.add(node)
            left += node.all_input_nodes
    modules = {str(node.target) for node in seen if node.op == "call_module"}
    with weights_on_meta():
        parameters = {name for name, _ in make(name).named_parameters()}
    read = {str(node.target) for node in seen if node.op == "get_attr"}
    return sorted(modules), sorted(read & parameters)
