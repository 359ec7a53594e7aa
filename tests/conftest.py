"""Settings of the whole suite."""

from __future__ import annotations

import torch
from hypothesis import settings

# The first call of an operator is slow, and machines are shared: no test is about single milliseconds.
settings.register_profile("detcfg", deadline=None, max_examples=50)
settings.load_profile("detcfg")

torch.set_num_threads(1)  # the tensors are small, and tests run side by side
