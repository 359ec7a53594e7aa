"""Masks as COCO's run-length codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


def encode(masks: Tensor) -> list[dict[str, Any]]:
    """Masks (N, H, W) bool as compressed RLE, ready for JSON."""
    from pycocotools import mask as coco_mask

    columns = np.asfortranarray(masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
    codes = coco_mask.encode(columns)
    return [{"size": list(code["size"]), "counts": code["counts"].decode("ascii")} for code in codes]
