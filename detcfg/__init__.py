"""Object detectors from typed parts: every component is a frozen config that builds its module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detcfg.experiment import load_experiment
    from detcfg.structures import Detections, Targets

__version__ = "0.1.0"
__all__ = ["Detections", "Targets", "__version__", "load_experiment"]

_HOMES = {
    "load_experiment": "detcfg.experiment",
    "Targets": "detcfg.structures",
    "Detections": "detcfg.structures",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import detcfg` costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'detcfg' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
