"""The code blocks of the README run as they stand, outside the package, without a registration of any kind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import frozen
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, flags=re.DOTALL))

TRAIN = """
import torch
from detcfg import load_experiment
from detcfg.structures import Targets

experiment = load_experiment("my_experiment.py")
model = experiment.resolved().model.build()
names = {type(part).__name__ for part in model.modules()}
print(" ".join(sorted(names)))
image = torch.zeros(3, 64, 64, dtype=torch.uint8)
targets = Targets(boxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]), labels=torch.tensor([1]))
losses = model([image], [targets])
sum(losses.values()).backward()
assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
model.eval()([image])
"""


@frozen
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("user")
    for name, text in BLOCKS.items():
        (found / name).write_text(text)
    return found


def run(folder: Path, *arguments: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=250
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_each_section_of_the_tutorial_has_a_block() -> None:
    parts = {"my_backbone", "my_neck", "my_bbox_head", "my_roi_head", "my_loss", "my_roi_extractor"}

    assert {f"{part}.py" for part in parts} <= set(BLOCKS)


def test_the_users_parts_learn_together_by_nothing_but_imports(folder: Path) -> None:
    (folder / "learn.py").write_text(TRAIN)
    done = run(folder, "learn.py")

    assert 0 == done.code, done.err
    assert {"PlainNet", "OneMap", "WideRoIHead", "TwoBranchBBoxHead", "MeanRoIExtractor"} <= set(
        done.out.split()
    )


def test_the_model_is_used_from_python_as_the_readme_says(folder: Path) -> None:
    done = run(folder, "use.py")

    assert 0 == done.code, done.err


def test_an_experiment_on_data_of_ones_own_fits_the_files(folder: Path) -> None:
    for split in ("train", "val"):
        (folder / "my_data" / "images" / split).mkdir(parents=True)
        (folder / "my_data" / "labels" / split).mkdir(parents=True)
        Image.new("RGB", (40, 20)).save(folder / "my_data" / "images" / split / "a.png")
        (folder / "my_data" / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.25 0.25")
    text = "train: images/train\nval: images/val\nnames: [cat, dog]"
    (folder / "my_data" / "data.yaml").write_text(text)

    check = run(folder, "-m", "detcfg", "check", "my_data.py")

    assert 0 == check.code, check.err
    assert "2 objects to learn" in check.out + check.err


def test_the_double_head_of_the_readme_is_the_one_that_is_shipped(folder: Path) -> None:
    done = run(
        folder,
        "-c",
        "from detcfg import load_experiment as load\n"
        "assert load('double_head.py').resolved().model.build is not None\n"
        "from detcfg.config.python import flattened\n"
        f"shipped = load({str(ROOT / 'experiments' / 'double_head.py')!r})\n"
        "assert flattened(load('double_head.py').model) == flattened(shipped.model)",
    )

    assert 0 == done.code, done.err


def test_the_commands_know_the_users_parts(folder: Path) -> None:
    check = run(folder, "-m", "detcfg", "check", "my_experiment.py")
    listed = run(folder, "-m", "detcfg", "list", "--module", "my_backbone")

    assert 0 == check.code, check.err
    assert "PlainNetConfig" in listed.out, listed.err


@pytest.mark.parametrize(
    "command", re.findall(r"^\$ detcfg (.*)\n(error: .*)$", README, flags=re.MULTILINE), ids=lambda c: c[0]
)
def test_errors_are_what_the_readme_shows(command: tuple[str, str]) -> None:
    arguments, message = command
    if arguments.startswith("train"):
        arguments = arguments.replace("train", "show-config", 1)
    done = run(ROOT, "-m", "detcfg", *arguments.split())

    assert 0 != done.code
    assert message.split()[:6] == done.err.split()[:6]
