"""JSON and back, without importing anything that was not allowed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from detcfg.config import ConfigError
from detcfg.config.python import to_python
from detcfg.config.serialize import from_data, lowered, to_data
from tests.support.toy import (
    BodyConfig,
    ChildJob,
    HeadConfig,
    Job,
    JobConfig,
    ModelConfig,
    WideHeadConfig,
)

CONFIGS = [Job(), Job().resolved(), ChildJob(), ModelConfig(others=(WideHeadConfig(), HeadConfig()))]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_survives_json_given_or_resolved(config: JobConfig) -> None:
    data = json.loads(json.dumps(to_data(config)))

    assert config == from_data(data, type(config))


def test_the_class_comes_from_the_data() -> None:
    assert Job() == from_data(to_data(Job()), JobConfig)


def test_derived_fields_are_not_written_until_they_are_resolved() -> None:
    assert "in_channels" not in to_data(Job())["model"]["head"]
    assert [256, 2048] == to_data(Job().resolved())["model"]["head"]["in_channels"]


@given(
    st.builds(
        HeadConfig,
        width=st.integers(1, 10**9),
        threshold=st.floats(allow_nan=False),
        in_channels=st.lists(st.integers()).map(tuple),
        num_classes=st.integers(),
        mode=st.sampled_from(["sum", "mean"]),
    )
)
def test_any_value_survives_json(head: HeadConfig) -> None:
    assert head == from_data(json.loads(json.dumps(to_data(head))), HeadConfig)


def test_a_preset_whose_module_is_gone_is_read_into_the_class_it_presets() -> None:
    data = json.loads(
        json.dumps(to_data(ChildJob())).replace("toy:Child", "gone:Child").replace('toy:Job"', 'gone:Job"')
    )
    loaded = from_data(data, JobConfig)

    assert JobConfig is type(loaded)
    assert 9 == loaded.model.head.width
    assert 6 == loaded.epochs


def test_lowered_is_the_nearest_class_with_code() -> None:
    assert JobConfig is lowered(ChildJob)
    assert BodyConfig is lowered(BodyConfig)


def test_a_module_that_is_not_allowed_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    code = (
        "from detcfg.config import Config, ConfigError\n"
        "from detcfg.config.serialize import from_data\n"
        "try:\n    from_data({'type': 'evil:Config'}, Config)\n"
        "except ConfigError as error:\n    print(error)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(root)!r})\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "is not detcfg's, so it is not imported" in done.stdout


@pytest.mark.parametrize(
    "tag",
    [
        "os:system",
        "builtins:eval",
        "subprocess:Popen",
        "detcfg.config.load:import_module",
        "detcfg" + ".a" * 5000 + ":X",
        "..x:Y",
        "x",
        3,
    ],
)
def test_a_tag_that_is_no_config_is_an_error(tag: object) -> None:
    with pytest.raises(ConfigError):
        from_data({"type": tag, "args": "true"}, JobConfig)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widht": 3}, r"has no field 'widht'\. Did you mean 'width'\?"),
        ({"width": 1.5}, r"head\.width must be int, not 1\.5"),
        ({"width": "False"}, "must be int"),
        ({"mode": "max"}, "must be one of"),
        ({"in_channels": [1, "a"]}, "in_channels must be"),
        ({"in_channels": {"a": 1}}, "in_channels must be"),
    ],
)
def test_wrong_data_is_named_by_its_path(change: dict[str, Any], message: str) -> None:
    data = to_data(ModelConfig())
    data["head"] |= change

    with pytest.raises(ConfigError, match=message):
        from_data(data, ModelConfig)


def test_validators_speak_with_the_path() -> None:
    data = to_data(ModelConfig())
    data["body"]["depth"] = 51

    with pytest.raises(ConfigError, match=r"ModelConfig\.body: 'depth' must be in"):
        from_data(data, ModelConfig)


def test_deep_data_is_refused_not_recursed_into() -> None:
    data: Any = 1
    for _ in range(100_000):
        data = [data]

    with pytest.raises(ConfigError, match="levels deep"):
        from_data({"type": "x:Y", "a": data}, JobConfig)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_python_form_makes_an_equal_config(config: JobConfig) -> None:
    *imports, expression = to_python(config).split("\n\n", 1)
    names: dict[str, Any] = {}
    exec("\n".join(imports), names)  # noqa: S102

    assert config == eval(expression, names)  # noqa: S307


def test_the_python_form_leaves_defaults_out() -> None:
    assert to_python(evolve(HeadConfig(), width=3)).endswith("HeadConfig(width=3)")
