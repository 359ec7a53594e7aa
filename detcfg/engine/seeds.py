"""One seed for whatever draws random numbers."""

from __future__ import annotations

import os
import random

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed torch on all devices, Python and NumPy. It takes less time than a small tensor operation."""
    torch.default_generator.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)  # does nothing without a GPU
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - a person's component may draw from it


def be_deterministic() -> None:
    """Have torch use operators that give the same result each time, where there are such."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cudnn.benchmark = False
