"""The table of what has moved, and how old files are read by it."""

from __future__ import annotations

import ast
import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import pytest

import detcfg
from detcfg.config import Config, ConfigError, serialize
from detcfg.config.moved import MOVES, SHIPPED, Gone, Moves, is_users
from detcfg.config.override import override
from detcfg.config.serialize import VERSION_KEY, from_data, to_data
from tests.support.toy import ChildJob, HeadConfig, Job, JobConfig, ModelConfig, WideHeadConfig

TOY = "tests.support.toy"
STEPS = (
    {
        "old.heads": TOY,
        "old.heads:Pair": Gone("Write two heads."),
        "old.jobs:Work": "between:Job",
        "old.heads:HeadConfig.size": "old.heads:HeadConfig.breadth",
        "old.heads:HeadConfig.style": Gone("Write width.", without_effect=("plain", [1])),
        "old.jobs:Work.kind": "between:Job.title",
    },
    {
        "between:Job": f"{TOY}:JobConfig",
        f"{TOY}:HeadConfig.breadth": f"{TOY}:HeadConfig.width",
        f"{TOY}:HeadConfig.mode": Gone("Write 'mean'.", values=("max", None)),
        "between:Job.title": f"{TOY}:JobConfig.name",
        f"{TOY}:JobConfig.warm": f"{TOY}:JobConfig.hot",
    },
    {f"{TOY}:JobConfig.hot": f"{TOY}:JobConfig.warm"},
)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialize, "MOVES", Moves(STEPS))


with_toys = pytest.mark.usefixtures("toys")


def read(data: dict[str, Any], version: int | None = None) -> JobConfig:
    return from_data(data if version is None else {**data, VERSION_KEY: version}, JobConfig, ("tests",))


def job(head: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A saved job, whose model has such a head."""
    return {"type": f"{TOY}:JobConfig", **values, "model": {"type": f"{TOY}:ModelConfig", "head": head}}


def found(path: str) -> Any:
    """The module, the object or the field that a path of today names."""
    module, _, name = path.partition(":")
    thing: Any = import_module(module)
    for part in name.split(".") if name else ():
        is_config = isinstance(thing, type) and issubclass(thing, Config)
        thing = attrs.fields_dict(thing)[part] if is_config else getattr(thing, part)
    return thing


TODAY = {
    MOVES.name(new, version)
    for version, step in enumerate(MOVES.steps, start=2)
    for new in step.values()
    if isinstance(new, str)
}


@pytest.mark.parametrize("new", sorted(path for path in TODAY if isinstance(path, str)))
def test_what_has_moved_is_where_the_table_says(new: str) -> None:
    assert found(new) is not None


def test_no_name_that_was_given_up_is_given_to_something_else() -> None:
    """A module may import what has left it; that is the same thing still."""
    for old in (old for step in MOVES.steps for old in step if old.startswith("detcfg.")):
        module, _, name = old.partition(":")
        if not name:
            assert find_spec(module) is None, old
        elif "." not in name and find_spec(module) is not None:
            today = MOVES.name(old)
            there = vars(import_module(module)).get(name)
            assert there is None or (isinstance(today, str) and there is found(today)), old


def test_the_table_is_read_in_two_places_alone() -> None:
    package = Path(detcfg.__file__).parent
    readers = {
        path.stem
        for path in package.rglob("*.py")
        if "MOVES" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "MOVES" for alias in node.names)
    }

    assert readers == {"load", "serialize"}


def test_names_go_from_step_to_step_and_begin_where_the_file_does() -> None:
    moves = Moves(({"a": "b", "a:X": "c:X"}, {"b": "d", "c:X": "d:Y", "b:Z": Gone("")}))

    assert moves.version == 3
    assert [moves.name(path) for path in ("a", "a:W", "a:X", "a:X.Inner", "z:X")] == [
        "d", "d:W", "d:Y", "d:Y.Inner", "z:X",
    ]  # fmt: skip
    assert [moves.name(path, 2) for path in ("a:X", "b:X", "c:X")] == ["a:X", "d:X", "d:Y"]
    assert moves.name("b:X", 3) == "b:X"
    assert isinstance(moves.name("a:Z"), Gone)


@with_toys
def test_classes_and_fields_of_earlier_versions_are_read_by_todays_names() -> None:
    old = job({"type": "old.heads:WideHeadConfig", "size": 7, "style": "plain"})
    old |= {"type": "old.jobs:Work", "kind": "mine", "warm": False}
    newer = job({"type": f"{TOY}:WideHeadConfig", "breadth": 7, "mode": "sum"}) | {
        "type": "between:Job",
        "title": "mine",
    }

    assert read(old) == JobConfig(name="mine", warm=False, model=ModelConfig(head=WideHeadConfig(width=7)))
    assert read(newer, 2) == JobConfig(
        name="mine", model=ModelConfig(head=WideHeadConfig(width=7, mode="sum"))
    )
    assert read(job({"type": f"{TOY}:HeadConfig", "width": 7}), 4).model.head == HeadConfig(width=7)
    assert old["kind"] == "mine", "the data is not changed"


@with_toys
@pytest.mark.parametrize(
    ("data", "version", "message"),
    [
        ({"type": "old.heads:Pair"}, 1, "JobConfig.model.head: old.heads:Pair is gone. Write two heads."),
        (
            {"type": f"{TOY}:HeadConfig", "style": "bold"},
            1,
            "JobConfig.model.head.style is 'bold', and the field is gone. Write width.",
        ),
        (
            {"type": f"{TOY}:WideHeadConfig", "mode": None},
            2,
            "JobConfig.model.head.mode is None, which it no longer takes. Write 'mean'.",
        ),
        ({"type": f"{TOY}:HeadConfig", "breadth": 7}, 3, "HeadConfig has no field 'breadth'"),
    ],
)
def test_what_is_gone_is_named_with_its_path_and_what_to_write_instead(
    data: dict[str, Any], version: int, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(job(data), version)

    assert message in str(error.value)


def test_what_is_saved_says_its_version_once() -> None:
    text = json.dumps(to_data(ChildJob()))

    assert text.startswith(f'{{"{VERSION_KEY}": {MOVES.version}, ')
    assert text.count(VERSION_KEY) == 1


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (
            MOVES.version + 1,
            f"format_version is {MOVES.version + 1}, of a newer detcfg than this one, which reads up to {MOVES.version}",
        ),
        (10**400, "of a newer detcfg"),
        *((version, "must be a whole number from 1") for version in (0, -1, True, 1.0, "2", None, [2])),
    ],
)
def test_a_version_that_there_is_not_yet_or_never_is_refused(version: object, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_data({**to_data(Job()), VERSION_KEY: version}, JobConfig)

    assert says in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_class_that_a_person_names_as_it_was_is_named_as_it_is() -> None:
    with pytest.raises(ConfigError, match=r"is detcfg\.heads\.mask\.base:MaskHeadConfig now\. Write that"):
        override(Job(), "model.head=detcfg.heads.mask_head_base:MaskHeadConfig")


def test_experiments_of_a_persons_own_keep_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be called as one that comes with detcfg; a link to that one is not theirs."""
    assert MOVES.name("experiments.mine") == "experiments.mine"
    assert MOVES.name("experiments.atss:Model") == f"{SHIPPED}.atss:Model"
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "atss.py").touch()

    assert is_users("experiments.atss", [tmp_path / "elsewhere", tmp_path])
    assert not is_users("experiments.atss", [tmp_path / "elsewhere", Path(__file__).parents[2]])
    assert not is_users("experiments.fcos", [tmp_path])
    monkeypatch.syspath_prepend(tmp_path)
    data = json.loads(json.dumps(to_data(Job())).replace(f'{TOY}:Job"', 'experiments.atss:Job"'))
    data.pop(VERSION_KEY)
    assert type(from_data(data, JobConfig)) is JobConfig, (
        "it is not allowed, so its values are read into its base"
    )
    (tmp_path / "experiments" / "__init__.py").touch()
    (tmp_path / "experiments" / "atss.py").write_text(f"from {TOY} import Job")
    assert type(from_data(data, JobConfig, ("experiments", "tests"))) is Job
