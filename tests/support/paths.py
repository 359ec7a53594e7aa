"""Where the data lies that is too large for the repository."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(os.environ.get("DETCFG_SHARED", Path(__file__).parents[3] / "shared"))
DATASETS = SHARED / "datasets"
MMDET_CONFIGS = Path(os.environ.get("DETCFG_MMDET_CONFIGS", SHARED / "mmdet" / "configs"))
"""The folder `mmdet/.mim/configs` of MMDetection 3.3.0's wheel; `nox -s zoo` fetches it."""
