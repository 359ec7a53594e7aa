"""Where values come from, and what differs."""

from __future__ import annotations

import inspect
from pathlib import Path

from detcfg.config.diff import diff
from detcfg.config.override import override
from detcfg.config.provenance import trace
from tests.support import toy
from tests.support.toy import ChildJob, HeadConfig, Job, JobConfig


def sources(config: JobConfig, overridden: tuple[str, ...] = ()) -> dict[str, str]:
    return {entry.path: entry.source for entry in trace(config, overridden)}


def line_of(text: str, after: str = "") -> str:
    lines = Path(inspect.getfile(toy)).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if after in line)
    number = next(i for i, line in enumerate(lines) if i >= start and text in line)
    return f"tests/support/toy.py:{number + 1}"


def test_each_value_belongs_to_the_ancestor_that_set_it() -> None:
    found = sources(ChildJob())

    assert line_of("head: HeadConfig = evolve", "class ChildModel") == found["model.head.width"]
    assert line_of("threshold=0.7", "class Model(") == found["model.head.threshold"]
    assert line_of("epochs: int = 6", "class Job(") == found["epochs"]
    assert line_of("rate: float", "class JobConfig") == found["rate"]
    assert line_of("extra: tuple", "class WideHeadConfig") == found["model.head.extra"]


def test_a_value_that_equals_the_default_belongs_to_who_wrote_it() -> None:
    assert line_of("mode=", "class Model(ModelConfig)") == sources(Job())["model.head.mode"]
    assert line_of("mode: Literal") == sources(JobConfig())["model.head.mode"]


def test_derived_values_name_the_wiring() -> None:
    assert "ModelConfig.wired" == sources(ChildJob())["model.head.in_channels"]


def test_the_command_line_is_named() -> None:
    changed = override(Job(), "model.head.width=3")
    found = sources(changed, ("model.head.width",))

    assert "command line" == found["model.head.width"]
    assert "command line" != found["model.head.threshold"]


def test_a_component_swapped_on_the_command_line_is_followed() -> None:
    changed = override(Job(), "model.head=tests.support.toy:HeadConfig")

    assert "command line" == sources(changed, ("model.head",))["model.head.width"]


def test_fields_come_in_the_order_of_declaration() -> None:
    top = [path for path in sources(ChildJob()) if "." not in path]

    assert ["model", "epochs", "rate", "milestones", "name", "warm", "limit"] == top


def test_diff_lists_the_leaves_that_differ() -> None:
    found = {d.path: (d.old, d.new) for d in diff(Job(), override(Job(), "model.head.width=3"))}

    assert {"model.head.width": (8, 3)} == found


def test_diff_of_another_class_names_the_classes() -> None:
    changed = override(Job(), "model.head=tests.support.toy:HeadConfig")
    found = {d.path: (d.old, d.new) for d in diff(Job(), changed)}

    assert (toy.WideHeadConfig, HeadConfig) == found["model.head"]
    assert (0.7, 0.5) == found["model.head.threshold"]
