"""Pipelines as detcfg's transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from detcfg.data.transforms.base import TransformConfig
from detcfg.data.transforms.composed import ComposeConfig, RandomChoiceConfig
from detcfg.interop.mmdet.components import short_name
from detcfg.interop.mmdet.data import Location, Node, cloned, is_list, is_tuple
from detcfg.interop.mmdet.translate import Spot, Translator

BY_ITSELF: Final = {
    "LoadImageFromFile": "datasets read images themselves",
    "LoadAnnotations": "datasets read annotations themselves",
    "PackDetInputs": "samples need no packing",
    "Normalize": "the model does so",
}
"""Steps that detcfg does without being told."""
OF_MANY_IMAGES: Final = (
    "Mosaic",
    "CachedMosaic",
    "MixUp",
    "CachedMixUp",
    "CopyPaste",
)
"""Steps that put several images together."""
WITHOUT_SIZE: Final = {"type", "size_divisor", "pad_val"}
"""Keys of a `Pad` that does what the model does."""


class PipelineTranslator:
    """Translates the steps of pipelines."""

    def __init__(self, translator: Translator) -> None:
        self.translator, self.record = translator, translator.record

    def translated(self, steps: Sequence[Any], path: str) -> tuple[TransformConfig, ...]:
        """The transforms of a pipeline, without what goes by itself."""
        made: list[TransformConfig] = []
        for index, step in enumerate(steps):
            here = f"{path}.{index}"
            if not isinstance(step, Node) or not isinstance(step.get("type"), str):
                self.record.unsupported(here, None, "a step of a pipeline is a dict with a type")
                continue
            found = self._step(short_name(step["type"]), step, here)
            if found is not None:
                made.append(found)
        return tuple(made)

    def _step(self, name: str, step: Node, path: str) -> TransformConfig | None:
        location = step.locations.get("type")
        if name in BY_ITSELF:
            self.record.defaulted(path, location, f"{name}: {BY_ITSELF[name]}")
        elif name == "Pad":
            self._pad(step, path, location)
        elif name in OF_MANY_IMAGES:
            note = f"{name}: detcfg's transforms see one image at a time"
            self.record.unsupported(path, location, note)
        elif name == "RandomFlip" and step.get("prob", step.get("flip_ratio")) in (0, 0.0, None):
            self.record.defaulted(path, location, "RandomFlip: it never flips")
        elif name == "RandomChoice":
            return self._choice(step, path)
        else:
            made = self.translator.component(_known(name, step), (TransformConfig,), Spot(path, "", location))
            return made if isinstance(made, TransformConfig) else None
        return None

    def _pad(self, step: Node, path: str, location: Location | None) -> None:
        if set(step) <= WITHOUT_SIZE:
            self.record.defaulted(path, location, "Pad: the model does so")
            return
        size: Any = step.get("size")
        to = "a square" if step.get("pad_to_square") else "x".join(map(str, _list(size))) or "a size"
        note = f"Pad: the model pads a batch to its largest image, not to {to} (BatchFixedSizePadConfig can)"
        self.record.unsupported(path, location, note)

    def _choice(self, step: Node, path: str) -> TransformConfig | None:
        """One of several pipelines."""
        options: list[TransformConfig] = []
        for index, option in enumerate(_list(step.get("transforms"))):
            steps = self.translated(_list(option) or [option], f"{path}.transforms.{index}")
            options.append(steps[0] if len(steps) == 1 else ComposeConfig(transforms=steps))
        location = step.locations.get("transforms")
        self.record.carried(f"{path}.transforms", location, "RandomChoiceConfig")
        rest = step.copied()
        rest.put("transforms", tuple(options), location)
        made = self.translator.component(rest, (TransformConfig,), Spot(path, "", step.locations.get("type")))
        return made if isinstance(made, RandomChoiceConfig) else None


def _known(name: str, step: Node) -> Node:
    """A step in detcfg's words."""
    made = cast("Node", cloned(step))
    if name == "FixScaleResize":  # it rounds down, to a pixel less
        made["type"] = "Resize"
    elif name == "Expand" and made.get("to_rgb") is False:  # the colour is in the order of files, BGR
        made["to_rgb"] = True
        if "mean" in made:
            made["mean"] = _list(made["mean"])[::-1]
    longest, scales = made.get("max_size"), _list(made.get("scales"))
    shortest = made.get("resize_type") == "ResizeShortestEdge" and type(longest) is int
    if shortest and scales and all(type(edge) is int for edge in scales):
        made["scales"] = [(longest, edge) for edge in scales]
        made.drop("max_size")
    return made


def _list(value: object) -> list[Any]:
    return list(value) if is_list(value) or is_tuple(value) else []
