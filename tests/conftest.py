"""Settings of the whole suite."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# The tensors are small, and tests run side by side; so do the processes that some of them start.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# The first call of an operator is slow, and machines are shared: no test is about single milliseconds.
settings.register_profile("detcfg", deadline=None, max_examples=50)
settings.load_profile("detcfg")

SAMPLE: Final = ("[dfine_n]", "[faster_rcnn]", "[fcos]")
"""Of a sweep over all experiments, these are quick's part."""
SWEEPS: Final = (
    "backbones/test_zoo.py",
    "detectors/test_half_precision.py",
    "engine/test_global_batch.py",
    "test_experiments.py",
    "test_goldens.py",
    "test_gradients.py",
)
SLOW: Final = (
    "backbones/test_adapters.py",
    "backbones/test_timm.py",
    "benchmark",
    "cli/test_bad_data.py",
    "cli/test_own_data.py",
    "cli/test_train.py",
    "config/test_nonsense.py::test_at_the_edges_of_its_ranges_the_demo_is_built_or_says_what_does_not_fit",
    "config/test_saved_runs.py",
    "data/test_own_data.py",
    "detectors/test_channels_last.py",
    "detectors/test_compile.py",
    "detectors/test_dfine.py",
    "detectors/test_rtdetr.py",
    "engine/test_allocator.py",
    "engine/test_bad_files.py",
    "engine/test_checkpoint.py",
    "engine/test_disks.py",
    "engine/test_distributed.py",
    "engine/test_faults.py",
    "engine/test_kills.py",
    "engine/test_memory.py",
    "engine/test_mid_epoch.py",
    "engine/test_own_trainer.py",
    "engine/test_resume.py",
    "engine/test_sharded_models.py",
    "engine/test_sharding.py",
    "engine/test_torchrun.py",
    "heads/test_dense_heads.py",
    "heads/test_double_head.py",
    "heads/test_roi_assigners.py",
    "heads/test_roi_variants.py",
    "heads/test_variants.py",
    "interop",
    "test_components.py",
    "test_docs.py",
    "test_fuzz.py",
    "test_golden_rule.py",
    "test_installed.py",
    "test_mistakes.py",
    "test_outside.py",
    "test_round_trips.py",
    "test_testing.py",
    "test_two_stage_zoo.py",
    "types",
)
"""Files and folders that start processes, run checkers, train, or compare whole models."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `pytest -m quick` runs: what most changes break."""
    for item in items:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        in_sweep = path in SWEEPS
        is_slow = any(slow in (path, f"{path}::{item.name}") or path.startswith(f"{slow}/") for slow in SLOW)
        if not is_slow and (not in_sweep or item.name.endswith(SAMPLE) or "[" not in item.name):
            item.add_marker(pytest.mark.quick)
