"""detcfg as users have it: from a wheel or an editable install, beside a package of their own called `experiments`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
USE = re.findall(r"```python\n# use\.py\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0]

OTHER = "SIZE = (64, 64)\n"
"""A file that is called as one that comes with detcfg."""
MINE = """
from attrs import evolve, frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.data.config import DataConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.experiments import double_head_demo
from detcfg.experiments.double_head_demo import Experiment as Demo
from detcfg.recipe.config import TrainerConfig
from experiments.retinanet import SIZE


@frozen(kw_only=True)
class Model(double_head_demo.Model):
    backbone: BackboneConfig = ResNetConfig(depth=18, base_channels=8, out_indices=(1, 2, 3), norm_eval=False)


@frozen(kw_only=True)
class Experiment(Demo):
    model: Model = Model()
    data: DataConfig = evolve(
        Demo().data,
        train=DemoDatasetConfig(num_images=4, image_size=SIZE),
        val=DemoDatasetConfig(split="val", num_images=2, image_size=SIZE),
        batch_size=2,
        num_workers=0,
    )
    trainer: TrainerConfig = evolve(Demo().trainer, epochs=1)
"""
CHILD = """
from attrs import frozen
from experiments import mine


@frozen(kw_only=True)
class Experiment(mine.Experiment):
    pass
"""
SCRIPT = """
import experiments.retinanet
from detcfg import load_experiment
from detcfg.experiments import double_head

assert load_experiment("double_head") == double_head.Experiment()
child = load_experiment("experiments/child.py")
assert isinstance(child, double_head.Experiment)
assert type(child).__module__ == NAME + "child"
assert type(load_experiment("mine")).__module__ == NAME + "mine"
run = load_experiment("RUN", allow=["experiments", "mine"])
assert type(run).__module__ == NAME + "mine"
assert run.data.train.image_size == experiments.retinanet.SIZE
"""


ISOLATION = ["--no-build-isolation"] if find_spec("hatchling") else []
"""With what builds the wheel at hand, pip fetches nothing."""


def environment(folder: Path) -> Path:
    """An environment in which nothing but what detcfg depends on is installed; its Python."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(str(Path(torch.__file__).parents[1]))
    return folder / "bin" / "python"


def pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], check=True)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--quiet", "--no-deps", *ISOLATION, "--wheel-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def from_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel."""
    python = environment(tmp_path_factory.mktemp("environment"))
    pip("--python", python, "install", "--quiet", "--no-deps", wheel)
    return python


@pytest.fixture(scope="session")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that knows this checkout, as `pip install -e .` has it."""
    python = environment(tmp_path_factory.mktemp("environment"))
    pip("--python", python, "install", "--quiet", "--no-deps", *ISOLATION, "-e", ROOT)
    return python


def write_project(folder: Path, *, is_package: bool) -> None:
    """Experiments of a person's own, as a package or without `__init__.py`."""
    script = SCRIPT.replace("NAME", repr("experiments." if is_package else "")).replace("RUN", "runs/mine")
    files = {"script.py": script + USE, "experiments/retinanet.py": OTHER, "experiments/mine.py": MINE}
    files |= {"experiments/child.py": CHILD} | ({"experiments/__init__.py": ""} if is_package else {})
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def run(project: Path, *command: str | Path) -> str:
    """What a command says, as a person calls it: knowing nothing of this checkout."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=project,
        env=variables | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_wheel_holds_each_experiment_once_and_nothing_but_detcfg(wheel: Path) -> None:
    names = Counter(zipfile.ZipFile(wheel).namelist())
    shipped = {f"detcfg/experiments/{path.name}" for path in (ROOT / "experiments").glob("*.py")}

    assert set(names.values()) == {1}
    assert {name for name in names if name.startswith("detcfg/experiments")} == shipped
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"detcfg"}


def test_a_wheel_works_in_two_processes_and_in_one_beside_a_persons_own_package(
    from_wheel: Path, tmp_path: Path
) -> None:
    write_project(tmp_path, is_package=True)
    run(tmp_path, from_wheel.with_name("detcfg"), "train", "mine", "--devices", "2")
    run(tmp_path, from_wheel, "-m", "detcfg", "show-config", "experiments/child.py")
    run(tmp_path, from_wheel, "script.py")


@pytest.mark.parametrize("is_package", [True, False])
def test_an_editable_install_works_beside_a_persons_own_experiments(
    editable: Path, tmp_path: Path, *, is_package: bool
) -> None:
    write_project(tmp_path, is_package=is_package)
    shown = run(tmp_path, editable.with_name("detcfg"), "show-config", "experiments/child.py")

    assert re.search(r"image_size +\(64, 64\) +experiments/mine\.py:", shown), shown


def test_a_wheel_works_beside_a_persons_own_folder_that_is_no_package(
    from_wheel: Path, tmp_path: Path
) -> None:
    write_project(tmp_path, is_package=False)

    assert "experiments/mine.py:" in run(tmp_path, from_wheel.with_name("detcfg"), "show-config", "mine")
