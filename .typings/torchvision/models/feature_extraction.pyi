from collections import OrderedDict
from typing import Any

from torch import fx, nn

class NodePathTracer(fx.Tracer):
    def __init__(
        self, *, leaf_modules: list[type[nn.Module]] | None = None, autowrap_modules: tuple[Any, ...] = ...
    ) -> None: ...
    node_to_qualname: OrderedDict[fx.Node, str]

def create_feature_extractor(
    model: nn.Module, return_nodes: list[str], *, tracer_kwargs: dict[str, Any] | None = None
) -> fx.GraphModule: ...
