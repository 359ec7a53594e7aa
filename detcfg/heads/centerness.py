"""How central a point is in a box."""

from __future__ import annotations

import torch
from torch import Tensor


def centerness(distances: Tensor) -> Tensor:
    """(N, 4) = (left, top, right, bottom) distances, above 0, to (N,) in [0, 1]; 1 is the centre.

    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), as in FCOS (Tian et al., 2019,
    https://arxiv.org/abs/1904.01355).
    """
    near, far = distances[:, :2], distances[:, 2:]
    return torch.sqrt((torch.min(near, far) / torch.max(near, far)).prod(dim=1))
