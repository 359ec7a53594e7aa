"""`path=value` from the command line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detcfg import load_experiment
from detcfg.config import ConfigError
from detcfg.config.override import override, override_all
from detcfg.config.serialize import from_data, to_data
from detcfg.heads.roi.cascade_roi_head import CascadeRoIHeadConfig
from tests.support.toy import ChildJob, HeadConfig, Job, JobConfig, ModelConfig, WideHeadConfig


def test_values_are_written_as_in_toml() -> None:
    job = override_all(
        Job(),
        [
            "model.head.threshold=2",
            "milestones=[3, 5]",
            "model.body.depth=18",
            "name=a b",
            "warm=false",
            "limit=1e-3",
        ],
    )

    assert 2.0 == job.model.head.threshold
    assert (3, 5) == job.milestones
    assert (64, 512) == job.resolved().model.head.in_channels
    assert ("a b", False, 1e-3) == (job.name, job.warm, job.limit)


def test_none_is_none() -> None:
    assert override(Job(limit=3.0), "limit=none").limit is None


def test_a_component_is_named_by_module_and_class() -> None:
    job = override(JobConfig(), "model.head=tests.support.toy:WideHeadConfig")

    assert WideHeadConfig() == job.model.head


def test_another_head_may_stand_where_a_shipped_experiment_says_which_one_does() -> None:
    name = "detcfg.heads.roi.cascade_roi_head:CascadeRoIHeadConfig"
    changed = override(load_experiment("faster_rcnn"), f"model.roi_head={name}").resolved()

    assert isinstance(changed.model.roi_head, CascadeRoIHeadConfig)
    assert from_data(to_data(changed), type(changed)) == changed


def test_an_item_of_a_tuple_is_reached_by_its_number() -> None:
    model = ModelConfig(others=(HeadConfig(), HeadConfig()))

    assert 3 == override(model, "others.1.width=3").others[1].width


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("model.haed.width=3", r"ChildModel has no field 'haed'\. Did you mean 'head'\?"),
        ("epochs=1.5", "epochs=1.5 must be int, not 1.5"),
        ("epochs=true", "must be int, not True"),
        (f"model.head.threshold={10**400}", "must be float, and this whole number is beyond"),
        ("model.head=tests.support.toy:BodyConfig", "BodyConfig is not a HeadConfig"),
        ("model.head=tests.support.toy:WideHaedConfig", "Did you mean 'WideHeadConfig'"),
        ("model.head=nowhere:X", "there is no module 'nowhere'"),
        ("model.body.depth=51", "'depth' must be in"),
        ("epochs", "Expected path=value"),
        ("=3", "Expected path=value"),
        ("epochs.x=3", "epochs is 6, which has no field 'x'"),
        ("model.head.in_channels.0=3", "derived from its surroundings"),
        ("milestones.7=3", "no index"),
    ],
)
def test_a_wrong_override_says_what_would_be_right(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(ChildJob(), assignment)


@given(st.text(), st.text())
def test_any_text_is_applied_or_refused(path: str, value: str) -> None:
    with contextlib.suppress(ConfigError):
        override(Job(), f"{path}={value}")


@given(st.sampled_from(["epochs", "model.head", "milestones", "limit", "warm", "model.head.mode"]), st.text())
def test_any_value_is_applied_or_refused(path: str, value: str) -> None:
    try:
        changed = override(Job(), f"{path}={value}")
    except ConfigError:
        return
    changed.resolved()
