"""What earlier versions saved loads, resolves and builds, with the values that were saved.

`tests/support/saved_runs.py` says how a version is added.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from detcfg.config.load import SAVED_NAME
from detcfg.config.moved import SHIPPED, SHIPPED_FOLDER
from detcfg.config.python import flattened
from detcfg.config.serialize import VERSION_KEY, to_data
from detcfg.experiment import ExperimentConfig, load_experiment
from tests.support.saved_runs import FOLDER, saved_runs

RUNS = [(archive.name, name) for archive in sorted(FOLDER.glob("*.tar.xz")) for name in saved_runs(archive)]
RENAMED: dict[str, str | None] = {}
"""What the table of moved names does to a `Class` or a `Class.field`, said once more; None: it had no effect and is gone."""
NAMES = {VERSION_KEY, "type", "base"}

every_run = pytest.mark.parametrize(("archive", "name"), RUNS, ids=lambda part: part.partition(".")[0])


def load(archive: str, name: str, folder: Path) -> ExperimentConfig:
    (folder / SAVED_NAME).write_text(saved_runs(FOLDER / archive)[name])
    return load_experiment(folder)


@cache
def shipped(name: str) -> object:
    return flattened(load_experiment(SHIPPED_FOLDER / f"{name}.py").resolved().model)


def class_name(data: dict[str, Any]) -> str:
    return str(data["type"]).partition(":")[2]


def assert_same_values(old: Any, new: Any, path: str = "") -> None:
    """What was saved is there; a later version may have added fields."""
    if isinstance(old, dict):
        old = cast("dict[str, Any]", old)
        cls = class_name(old)
        assert RENAMED.get(cls, cls) == class_name(new), path
        for name in old.keys() - NAMES:
            today = RENAMED.get(f"{cls}.{name}", name)
            if today is not None:
                assert_same_values(old[name], new[today], f"{path}.{name}")
    elif isinstance(old, list):
        old = cast("list[Any]", old)
        assert len(old) == len(new), path
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            assert_same_values(one, other, f"{path}.{index}")
    else:
        assert old == new, path
        assert isinstance(old, bool) == isinstance(new, bool), path


@every_run
def test_a_run_of_an_earlier_version_loads_resolves_and_builds_with_the_values_that_were_saved(
    archive: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other checkouts of detcfg that Python may know would count as a person's own experiments.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "experiments").is_dir()])
    loaded = load(archive, name, tmp_path)
    old = json.loads(saved_runs(FOLDER / archive)[name])

    assert_same_values(old, json.loads(json.dumps(to_data(loaded))))
    assert loaded == loaded.resolved()
    assert type(loaded).__module__ == f"{SHIPPED}.{name}"
    if flattened(loaded.model) != shipped(
        name
    ):  # tests/test_experiments.py builds those that come with detcfg
        with torch.device("meta"):
            loaded.model.build()
