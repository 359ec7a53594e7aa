"""Experiments by path, by name and from a saved run; a mistake is shown at its line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from detcfg.config import ConfigError
from detcfg.config import load as loading
from detcfg.config.load import load
from detcfg.config.serialize import to_data
from tests.support.toy import Job, JobConfig

GOOD = """
from attrs import frozen
from tests.support.toy import Job

@frozen(kw_only=True)
class Experiment(Job):
    epochs: int = 3
"""


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_outside_any_package_is_loaded_by_its_path(tmp_path: Path) -> None:
    assert 3 == load(write(tmp_path, GOOD), JobConfig).epochs


def test_a_name_is_looked_up_in_a_folder_named_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, GOOD, "experiments/mine.py")
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")

    assert 3 == load("mine", JobConfig).epochs


def test_a_saved_run_is_loaded_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text(json.dumps(to_data(Job())))

    assert Job() == load(tmp_path, JobConfig)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Experiment(\n", r"mine\.py:1: .*\n    class Experiment\("),
        ("x = 1", "defines no class `Experiment`"),
        ("Experiment = 3", "defines no class `Experiment`"),
        (
            GOOD.replace("epochs", "epohcs"),
            r"mine\.py:\d+: .*'epohcs', which nothing reads\. Did you mean 'epochs'",
        ),
        (
            "from tests.support.toy import HeadConfig\nHeadConfig(widht=3)",
            r"mine\.py:2: HeadConfig has no field 'widht'\. Did you mean 'width'\?",
        ),
        (
            "from tests.support.toy import BodyConfig\n\nBodyConfig(depth=7)",
            r"mine\.py:3: 'depth' must be in",
        ),
        ("import nowhere", r"mine\.py:1: .*nowhere"),
        ("1 / 0", r"mine\.py:1: ZeroDivisionError"),
        (GOOD.replace("    epochs: int = 3", "    epochs: int = 3\n    1 / 0"), "mine.py:8"),
    ],
)
def test_a_mistake_in_the_file_is_shown_at_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(write(tmp_path, text), JobConfig)


@pytest.mark.parametrize("source", ["nowhere.py", "nowhere", "nowhere.json"])
def test_what_is_not_there_is_said_so(source: str) -> None:
    with pytest.raises(ConfigError, match="There is no"):
        load(source, JobConfig)


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "os:system"}', "[" * 100_000])
def test_a_broken_saved_run_is_an_error_with_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "experiment.json").write_text(text)

    with pytest.raises(ConfigError, match=r"experiment\.json"):
        load(tmp_path, JobConfig)


def test_a_file_outside_packages_is_known_by_its_name_so_that_a_saved_run_finds_its_classes(
    tmp_path: Path,
) -> None:
    name = f"alone_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(
        "from tests.support import toy\nfrom attrs import frozen\n\n"
        "@frozen(kw_only=True)\nclass Experiment(toy.Job):\n    epochs: int = 3\n"
    )

    assert name == type(load(tmp_path / f"{name}.py", JobConfig)).__module__


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 200_000, "is not JSON"),
        ('{"type":' * 200_000, "is not JSON"),
        ('{"a":' * 300 + "1" + "}" * 300, "more than 64 levels deep"),
        (" " * (16 * 2**20 + 1), "which no saved experiment has"),
        ("9" * 5000, "is not JSON"),
        ("NaN", "must be JobConfig, not nan"),
        ('{"type": "this:Zen"}', "so it is not imported"),
    ],
)
def test_a_saved_experiment_that_is_deep_or_huge_or_none_is_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "experiment.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, JobConfig)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


MOVED = """
from attrs import frozen
from tests.support.toy import Job
IMPORT

@frozen(kw_only=True)
class Experiment(Job):
    epochs: int = 3
"""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "from detcfg.heads.bbox_head import BBoxHeadConfig",
            "detcfg.heads.bbox_head:BBoxHeadConfig is detcfg.heads.bbox.bbox_head:BBoxHeadConfig now.",
        ),
        ("import detcfg.engine.config", "detcfg.engine.config is detcfg.recipe.config now."),
        ("from detcfg.heads import rpn_head", "detcfg.heads.rpn_head is detcfg.heads.proposal.rpn_head now."),
        (
            "from detcfg.boxes.coders.base import clip_boxes",
            "detcfg.boxes.coders.base:clip_boxes is detcfg.boxes.geometry:clip_boxes now.",
        ),
        ("from experiments import atss", "experiments.atss is detcfg.experiments.atss now."),
        (
            "from experiments.atss import Model",
            "experiments.atss:Model is detcfg.experiments.atss:Model now.",
        ),
        (
            "import detcfg.heads\ndetcfg.heads.rpn_head.RPNHead",
            "detcfg.heads.rpn_head:RPNHead is detcfg.heads.proposal.rpn_head:RPNHead now.",
        ),
    ],
)
def test_an_import_of_what_has_moved_is_an_error_with_its_line_the_new_place_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    """Beside a person's own package that is called `experiments`, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        monkeypatch.delitem(sys.modules, name)
    write(tmp_path, "", "experiments/__init__.py")
    path = write(tmp_path, MOVED.replace("IMPORT", line))

    with pytest.raises(ConfigError) as error:
        load(path, JobConfig)

    assert f"{path}:{4 + line.count(chr(10))}: {says}\n    {line.splitlines()[-1]}\n" in str(error.value)
    assert str(error.value).endswith(f": detcfg upgrade {path.name}")
    sys.modules.pop("experiments", None)


def test_an_error_in_another_file_of_a_persons_own_names_that_one(tmp_path: Path) -> None:
    name = f"parts_{tmp_path.name}".replace("-", "_")
    parts = write(tmp_path, "import os\nfrom detcfg.engine.ema import EMAConfig\n", f"{name}.py")
    path = write(tmp_path, MOVED.replace("IMPORT", f"from {name} import EMAConfig"))

    with pytest.raises(ConfigError, match=rf"{parts}:2: .* is detcfg.recipe.ema:EMAConfig now") as error:
        load(path, JobConfig)
    assert str(error.value).endswith(f"detcfg upgrade {parts}")


def test_an_import_of_what_is_gone_says_what_to_write_instead(tmp_path: Path) -> None:
    path = write(tmp_path, "from detcfg.detectors.wiring import wired_neck\n")

    with pytest.raises(ConfigError) as error:
        load(path, JobConfig)
    assert str(error.value).startswith(f"{path}:1: detcfg.detectors.wiring:wired_neck is gone. Derive from ")
    assert str(error.value).endswith("\n    from detcfg.detectors.wiring import wired_neck")


def test_an_import_that_fails_otherwise_is_explained_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, "from detcfg.engine.emma import EMAConfig\n")

    with pytest.raises(
        ConfigError, match=r"mine\.py:1: ModuleNotFoundError: No module named 'detcfg.engine.emma'"
    ):
        load(path, JobConfig)


def test_a_copy_without_symbolic_links_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, git makes a text file of the link `detcfg/experiments`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SHIPPED_FOLDER", Path(__file__))
    for name in [name for name in sys.modules if name.startswith("detcfg.experiments")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "detcfg.experiments", None)  # as if it could not be imported
    path = write(tmp_path, "from detcfg.experiments import atss\n")

    for source, place in (("atss", ""), (path, f"{path}:1: ")):
        with pytest.raises(ConfigError, match=r"ln -sf \.\./experiments .*core\.symlinks=true") as error:
            load(source, JobConfig)
        assert str(error.value).startswith(place)


def test_a_package_of_experiments_goes_before_a_folder_that_is_called_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a checkout of detcfg, which an editable install makes known, has one."""
    path = write(tmp_path / "mine", GOOD, "exps/one.py")
    write(
        tmp_path / "mine",
        GOOD.replace("tests.support.toy", "exps.one").replace("Job", "Experiment"),
        "exps/two.py",
    )
    write(tmp_path / "mine", "", "exps/__init__.py")
    write(tmp_path, "", "exps/three.py")
    monkeypatch.syspath_prepend(tmp_path)

    assert type(load(path.with_name("two.py"), JobConfig)).__module__ == "exps.two"
    for name in ("exps", "exps.one", "exps.two"):
        del sys.modules[name]
