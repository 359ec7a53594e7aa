"""How large a detector is, found without a weight: parameters, activation shapes and multiply-adds.

The detector runs on the meta device, where tensors have a shape and no values. What depends on
values (how many boxes pass a threshold or survive NMS) is taken at its most: all do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from detcfg.config import ConfigError
from detcfg.detectors.base import Detector, DetectorConfig

DEPTH: Final = 2
"""Modules nested deeper in the detector are part of their parent's line."""


@frozen(kw_only=True)
class Part:
    """A component of the detector or a stage of one."""

    name: str
    """As in the state dict: `backbone.layer1`."""
    parameters: int
    trainable: int
    """How many of the parameters learn."""
    multiply_adds: int
    """Of convolutions and matrix products, for one image."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the tensors that come out; empty where the module is not called as a whole."""


@frozen(kw_only=True)
class Summary:
    """What `summarise` finds."""

    parts: tuple[Part, ...]
    """In the order in which the detector holds them."""
    parameters: int
    trainable: int
    multiply_adds: int
    largest: str = ""
    """The tensor that takes the most memory: its name in the state dict, and its shape."""
    weight_bytes: int = 0
    """Of all parameters and buffers."""
    stopped: str = ""
    """Why the run ended before its end, and with it the counts; empty if it did not."""


def summarise(config: DetectorConfig, image_size: tuple[int, int]) -> Summary:
    """Build a detector on the meta device and run it on one image of (height, width).

    Raises:
        ConfigError: The config cannot be resolved, a layer has more weights than can be counted, or the backbone or
            neck declares other maps than it has.
    """
    with torch.device("meta"):
        try:
            detector = config.build().eval()
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            raise ConfigError(f"model: a layer is larger than any memory. {error}") from None
        image = torch.empty((3, *image_size), dtype=torch.uint8)
    return _summarise(detector, image)


def machine_memory() -> int | None:
    """Bytes of memory that this machine has; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _summarise(detector: Detector, image: Tensor) -> Summary:
    named = cast("Iterable[tuple[str, nn.Module]]", detector.named_modules())
    modules = {name: module for name, module in named if _is_part(name, module)}
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in modules}
    handles = [module.register_forward_hook(_recorder(shapes[name])) for name, module in modules.items()]
    counter = FlopCounterMode(display=False, custom_mapping=_custom_counts())
    stopped = ""
    try:
        with torch.no_grad(), counter, _AsIfAll():
            detector([image])  # in evaluation mode: predict, with the hooks of the whole
    except (NotImplementedError, RuntimeError, ValueError, IndexError) as error:
        # An operator that has no meaning without values. What ran until then still counts.
        stopped = str(error).partition("\n")[0]
    finally:
        for handle in handles:
            handle.remove()
    flops = _by_name(counter, detector)
    return Summary(
        parts=tuple(
            Part(
                name=name,
                parameters=_count(module.parameters()),
                trainable=_count(p for p in module.parameters() if p.requires_grad),
                multiply_adds=_flops_of(name, module, flops) // 2,
                shapes=tuple(shapes[name]),
            )
            for name, module in modules.items()
        ),
        parameters=_count(detector.parameters()),
        trainable=_count(p for p in detector.parameters() if p.requires_grad),
        multiply_adds=counter.get_total_flops() // 2,
        largest=_largest(detector),
        weight_bytes=sum(tensor.nbytes for tensor in detector.state_dict().values()),
        stopped=stopped,
    )


def _largest(detector: Detector) -> str:
    name, tensor = max(detector.state_dict().items(), key=lambda item: item[1].nbytes)
    return f"{name} of shape {tuple(tensor.shape)}"


def _is_part(name: str, module: nn.Module) -> bool:
    """A component, or a stage of one: neither a single layer nor something inside a stage."""
    depth = name.count(".") + 1 if name else 0
    has_weights = next(module.parameters(), None) is not None
    return has_weights and (depth == 1 or (1 < depth <= DEPTH and next(module.children(), None) is not None))


def _recorder(into: list[tuple[int, ...]]) -> Callable[[nn.Module, object, object], None]:
    def record(module: nn.Module, inputs: object, output: object) -> None:
        del module, inputs
        into.extend(_shapes(output))

    return record


def _shapes(output: object) -> list[tuple[int, ...]]:
    if isinstance(output, Tensor):
        return [tuple(output.shape)]
    if isinstance(output, Mapping):
        return _shapes(list(cast("Mapping[object, object]", output).values()))
    if isinstance(output, list | tuple):
        return [shape for item in cast("Sequence[object]", output) for shape in _shapes(item)]
    return []


def _count(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _by_name(counter: FlopCounterMode, detector: Detector) -> dict[str, int]:
    """Floating-point operations of each module that was called, by its name in the detector."""
    prefix = f"{type(detector).__name__}."
    counts = cast("dict[str, dict[object, int]]", counter.get_flop_counts())
    return {name.removeprefix(prefix): sum(ops.values()) for name, ops in counts.items()}


def _flops_of(name: str, module: nn.Module, flops: Mapping[str, int]) -> int:
    """Of a module that is not called itself: those of the modules inside it."""
    if name in flops:
        return flops[name]
    return sum(_flops_of(f"{name}.{child}", inner, flops) for child, inner in module.named_children())


class _AsIfAll(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves the class untyped
    """Give operators whose result depends on values the largest result that they may have."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # pyright: ignore[reportUnknownMemberType]
        self.largest = _largest_results()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        largest = self.largest.get(func)
        given = None if largest is None else largest(*args, **kwargs)
        return func(*args, **kwargs) if given is None else given


def _largest_results() -> dict[Any, Callable[..., Any]]:
    """For each such operator a function of its arguments; it returns None where the operator itself will do."""
    aten = cast("Any", torch.ops.aten)

    def scalar(x: Tensor) -> int | None:
        return 1 if x.is_meta else None

    def nonzero(mask: Tensor) -> Tensor | None:
        return _all_indices(mask) if mask.is_meta else None

    def index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor | None:
        if not any(map(_is_mask, indices)):
            return None
        return cast("Tensor", aten.index.Tensor(x, _without_masks(indices)))

    def index_put(x: Tensor, indices: Sequence[Tensor | None], *rest: object) -> Tensor | None:
        del rest
        return x if any(map(_is_mask, indices)) else None

    def masked_select(x: Tensor, mask: Tensor) -> Tensor | None:
        return x.expand((x.bool() & mask).shape).reshape(-1) if x.is_meta else None

    def bincount(x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor | None:
        del weights
        # On the CPU, where its numbers are read: all are of the first kind.
        return torch.tensor([len(x), *([0] * (minlength - 1))], device="cpu") if x.is_meta else None

    def nms(boxes: Tensor, *rest: object) -> Tensor | None:
        del rest
        return torch.arange(len(boxes), device="meta") if boxes.is_meta else None

    def to_copy(x: Tensor, **kwargs: Any) -> Tensor | None:
        if not (x.is_meta and str(kwargs.get("device")) == "cpu"):
            return None
        return torch.ones(x.shape, dtype=kwargs.get("dtype") or x.dtype, device="cpu")

    return {
        aten._local_scalar_dense.default: scalar,  # noqa: SLF001 - the operator's name
        aten.nonzero.default: nonzero,
        aten.index.Tensor: index,
        aten.index_put_.default: index_put,
        aten.masked_select.default: masked_select,
        aten.bincount.default: bincount,
        cast("Any", torch.ops).torchvision.nms.default: nms,
        aten._to_copy.default: to_copy,  # noqa: SLF001 - the operator's name
    }


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.is_meta and index.dtype in (torch.bool, torch.uint8)


def _all_indices(mask: Tensor) -> Tensor:
    return torch.empty((mask.numel(), mask.dim()), dtype=torch.int64, device="meta")


def _without_masks(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Each mask as the index tensors that it stands for."""
    given: list[Tensor | None] = []
    for index in indices:
        given += _all_indices(index).unbind(1) if index is not None and _is_mask(index) else [index]
    return given


def _custom_counts() -> dict[Any, Any]:
    """What torch's counter does not know: torchvision's deformable convolution."""
    import torchvision  # noqa: F401  # registers its operators # pyright: ignore[reportUnusedImport]

    def deform_conv(
        x: Any, weight: Sequence[int], *args: Any, out_shape: Sequence[int], **kwargs: Any
    ) -> int:
        del x, args, kwargs
        outputs = out_shape[0] * out_shape[1] * out_shape[2] * out_shape[3]
        return 2 * outputs * weight[1] * weight[2] * weight[3]

    return {torch.ops.torchvision.deform_conv2d: deform_conv}
