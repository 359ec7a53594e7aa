"""The typed config core. It knows nothing of detection."""

from detcfg.config.base import (
    UNSET,
    Config,
    ConfigError,
    ModuleConfig,
    check_unused,
    derived,
    did_you_mean,
    fill,
    is_unset,
)

__all__ = [
    "UNSET",
    "Config",
    "ConfigError",
    "ModuleConfig",
    "check_unused",
    "derived",
    "did_you_mean",
    "fill",
    "is_unset",
]
