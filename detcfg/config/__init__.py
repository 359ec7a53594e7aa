"""The typed config core. It knows nothing of detection.

A component is described by a frozen class. What depends on the components around it is *derived*: the config that holds
both fills it in.

>>> from attrs import frozen
>>> from detcfg.config import Config, derived, evolve, fill
>>> @frozen(kw_only=True)
... class NeckConfig(Config):
...     in_channels: int = derived()
...     out_channels: int = 256
>>> @frozen(kw_only=True)
... class ModelConfig(Config):
...     width: int = 64
...     neck: NeckConfig = NeckConfig()
...
...     def wired(self):
...         return evolve(self, neck=fill(self.neck, "width", in_channels=self.width))

A config is *given* first, then *resolved*:

>>> ModelConfig()
ModelConfig(width=64, neck=NeckConfig(in_channels=<derived>, out_channels=256))
>>> ModelConfig().resolved()
ModelConfig(width=64, neck=NeckConfig(in_channels=64, out_channels=256))

`evolve` gives another one, since none is ever changed. What is derived follows:

>>> wide = evolve(ModelConfig(), width=128)
>>> wide.resolved().neck.in_channels
128

A derived field may be given a value all the same; then it is checked:

>>> evolve(wide, neck=NeckConfig(in_channels=64)).resolved()
Traceback (most recent call last):
detcfg.config.base.ConfigError: neck.in_channels is 64, but width makes it 128. Leave in_channels out, or change one of the two.
"""

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
from detcfg.config.evolving import evolve

__all__ = [
    "UNSET",
    "Config",
    "ConfigError",
    "ModuleConfig",
    "check_unused",
    "derived",
    "did_you_mean",
    "evolve",
    "fill",
    "is_unset",
]
