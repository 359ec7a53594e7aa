"""`nox` runs what CI runs; `nox -s tests -- -k name` runs some of it."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2.9"


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests."""
    session.install("-e.[test]")
    session.run("pytest", *session.posargs)


@nox.session
def quick(session: nox.Session) -> None:
    """Run what most changes break, in a minute or two."""
    session.install("-e.[test]")
    session.run("pytest", "-m", "quick", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Check types with pyright and mypy, both strict."""
    session.install("-e.[test]", "nox")
    session.run("pyright")
    session.run("pyright", "--pythonversion", "3.11")
    session.run("mypy", "detcfg", "experiments", "noxfile.py")


@nox.session
def checkers(session: nox.Session) -> None:
    """Give the wrong configs of tests/types/should_fail.py to six type checkers, and print who rejects how many."""
    pyrights = ["pyright==1.1.414", "basedpyright==1.40.2"]
    others = ["mypy==2.4.1", "ty==0.0.108", "pyrefly==1.5.0", "zuban==0.10.0"]
    session.install("-e.[test]", *pyrights, *others)
    session.run("python", "-m", "tests.types.checkers")


@nox.session
def zoo(session: nox.Session) -> None:
    """Import every config of MMDetection 3.3.0, compare the models and check what is written.

    Needs the shared figures. `-- fcos` takes the configs whose path has that in it.
    """
    session.install("-e.[test]")
    folder = session.create_tmp()
    session.run("pip", "download", "-q", "--no-deps", "--dest", folder, "mmdet==3.3.0")
    session.run("python", "-m", "zipfile", "-e", f"{folder}/mmdet-3.3.0-py3-none-any.whl", folder)
    configs = f"{folder}/mmdet/.mim/configs"
    session.run("python", "-m", "tests.interop.zoo", configs, *session.posargs)
    session.run("python", "-m", "tests.interop.zoo_written", configs, *session.posargs)
    goldens = "tests/interop/test_mmdet_goldens.py"
    session.run("pytest", goldens, env={"DETCFG_MMDET_CONFIGS": configs})


@nox.session
def edges(session: nox.Session) -> None:
    """Set every number of the narrow experiments to the edges of its range; train and predict. `-- NAME …` takes these."""
    session.install("-e.[test]")
    session.run("python", "-m", "tests.support.edges", *session.posargs)


@nox.session
def timm(session: nox.Session) -> None:
    """Hold the declared maps of one model of every timm module against its maps. `-- NAME …` takes these models."""
    session.install("-e.[test]")
    session.run("python", "-m", "tests.support.timm_zoo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure detcfg beside torchvision, OpenCV and pycocotools; `-- --only data` measures a part."""
    session.install("-e.[fast]", "opencv-python-headless")
    work = ["--against", "torchvision", "--eval-images", "5000", "--rounds", "5"]
    out = ["--out", "runs/benchmark.json"]
    session.run("detcfg", "benchmark", "experiments/faster_rcnn.py", *work, *out, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint and format, and hold the direction of imports."""
    session.install("ruff>=0.9", "import-linter>=2.1", "-e.")
    session.run("ruff", "check", "--fix")
    session.run("ruff", "format")
    session.run("lint-imports")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Give a hundred thousand spoilt inputs to everything that reads a stranger's files."""
    session.install("-e.[test]")
    session.run("python", "-m", "tests.fuzz", "--inputs", "136000", *session.posargs)


@nox.session
def kills(session: nox.Session) -> None:
    """Kill trainings in one and in two processes fifty times each; the weights have to be the same."""
    session.install("-e.[test]")
    session.run("pytest", "-s", "-n=0", "tests/engine/test_kills.py", env={"DETCFG_KILLS": "50"})


@nox.session
def demo(session: nox.Session) -> None:
    """Train the demo, as the README's first command does."""
    session.install("-e.")
    session.run("detcfg", "train", "experiments/double_head_demo.py", *session.posargs)
