"""What MMDetection computes, as `tests/goldens` has it."""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

GOLDENS = Path(__file__).parents[1] / "goldens"


def model_names() -> list[str]:
    """The models of which there are figures."""
    return sorted(path.name.removesuffix(".json.xz") for path in (GOLDENS / "models").glob("*.json.xz"))


@cache
def model(name: str) -> dict[str, Any]:
    """State dict, detections, losses and gradient norms of one model."""
    return _read(GOLDENS / "models" / f"{name}.json.xz")


@cache
def realtime(name: str) -> dict[str, Any]:
    """The same of a real-time detector, as its reference computes it; `zoo_dfine` has digests."""
    return _read(GOLDENS / "realtime" / f"{name}.json.xz")


@cache
def zoo() -> dict[str, dict[str, Any]]:
    """The digest of the model that each config of MMDetection's wheel builds, by the config's path."""
    return _read(GOLDENS / "zoo.json.xz")


def checkpoint_of_a_run(folder: Path) -> Path:
    """What MMDetection's runner saved, unpacked into a folder."""
    path = folder / "checkpoint_of_a_run.pth"
    path.write_bytes(lzma.decompress((GOLDENS / f"{path.name}.xz").read_bytes()))
    return path


def _read(path: Path) -> dict[str, Any]:
    with lzma.open(path) as file:
        found: dict[str, Any] = json.load(file)
    return found
