"""Each value of a source is carried, defaulted or named as not supported: none goes lost without a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detcfg.interop.mmdet.coverage import READ_BY_RUNNER
from detcfg.interop.mmdet.data import Node, is_list, is_tuple
from detcfg.interop.mmdet.experiment import NOT_KNOWN, Imported, import_config
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.record import Status
from tests.support.small_configs import FAMILIES, RUN, write_config

ODD = "an_odd_key_of_nobody"


def unknown(found: Imported) -> list[str]:
    return [entry.path for entry in found.record.entries if entry.note == NOT_KNOWN]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rule_speaks_of_each_value(tmp_path: Path, family: str) -> None:
    assert not unknown(import_config(read_config(write_config(tmp_path, family))))


def dicts(value: Any) -> Iterator[Node]:
    """Every dict inside a value, itself too."""
    if isinstance(value, Node):
        yield value
        for item in value.values():
            yield from dicts(item)
    elif is_list(value) or is_tuple(value):
        for item in value:
            yield from dicts(item)


def test_an_odd_key_is_named_wherever_it_stands(tmp_path: Path) -> None:
    source = read_config(write_config(tmp_path, "mask_rcnn"))
    unlike = {
        "metainfo",
        "test_evaluator",
        "val_evaluator",
        "timer",
        "val_cfg",
    }  # with a word for all that is in them
    for name in READ_BY_RUNNER:
        for number, node in enumerate(dicts(source.data.get(name))):
            if name in unlike or "classes" in node or node.get("type") in SPOKEN_OF:
                continue
            node.put(ODD, number, None)
            found = import_config(source)
            node.drop(ODD)
            said = [e for e in found.record.of(Status.UNSUPPORTED) if e.path.endswith(ODD)]
            assert said, f"{name}, dict {number}: {dict(node)}"


SPOKEN_OF = (
    "IterTimerHook",
    "DefaultSampler",
    "AspectRatioBatchSampler",
    "LoadImageFromFile",
    "LoadAnnotations",
    "PackDetInputs",
)
"""Dicts that are done with as a whole."""


def test_a_setting_that_no_rule_knows_is_not_supported(tmp_path: Path) -> None:
    write_config(tmp_path, "retinanet")
    path = tmp_path / "odd.py"
    path.write_text("_base_ = ['_base_.py', 'run.py']\nrandomness = dict(seed=1, diff_rank_seed=True)\n")
    assert "randomness = " not in RUN
    found = import_config(read_config(path))
    assert unknown(found) == ["randomness.diff_rank_seed"]
    assert found.trainer.seed == 1
