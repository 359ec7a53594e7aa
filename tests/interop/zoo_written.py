"""Write the experiment of every config of MMDetection's zoo, and hold what is written to what is promised of it.

    python -m tests.interop.zoo_written mmdet/.mim/configs [part of a name]

Each has to load, to resolve, and to come back equal from JSON; together they pass pyright strict and ruff.
`nox -s zoo` fetches the configs and runs this.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import Factory, define

from detcfg import load_experiment
from detcfg.config.serialize import from_data, to_data
from detcfg.errors import DetcfgError
from detcfg.experiment import ExperimentConfig
from detcfg.interop.mmdet.command import known_experiments
from detcfg.interop.mmdet.experiment import import_config
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.write import write_experiment
from tests.support import figures

ROOT = Path(__file__).parents[2]


@define
class Written:
    """What became of the configs."""

    whole: list[str] = Factory(list[str])
    """Written, and all holds."""
    refused: dict[str, str] = Factory(dict[str, str])
    """Why nothing was written, by config."""
    broken: dict[str, str] = Factory(dict[str, str])
    """What does not hold of an experiment that was written, by config."""

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for what, found in (("refused", self.refused), ("broken", self.broken)):
            yield from (f"{what}: {name}: {why}" for name, why in found.items())
            kinds = Counter(re.sub(r"\S*\d\S*", "…", why)[:80] for why in found.values())
            yield from (f"{count:8} {what}: {kind}" for kind, count in kinds.most_common())
        count = len(self.whole) + len(self.broken)
        yield f"{count} written: {len(self.whole)} resolve and come back from JSON, {len(self.broken)} do not"
        yield f"{len(self.refused)} refused"


def write_all(configs: Path, folder: Path, only: str = "") -> Written:
    """Write the experiments of the configs whose path has `only` in it into `folder`."""
    names = figures.zoo()
    parents = known_experiments()
    found = Written()
    for name in (name for name in names if only in name):
        try:
            text = write_experiment(import_config(read_config(configs / name, config_root=configs)), parents)
        except DetcfgError as error:
            found.refused[name] = str(error)
            continue
        path = folder / (re.sub(r"\W", "_", name.removesuffix(".py")) + ".py")
        path.write_text(text, encoding="utf-8")
        problem = _problem(path)
        if problem:
            found.broken[name] = problem
        else:
            found.whole.append(name)
    return found


def _problem(path: Path) -> str:
    """Why a written experiment is not what it should be; empty if it is."""
    try:
        experiment = load_experiment(path)
        resolved = experiment.resolved()
        data = json.loads(json.dumps(to_data(resolved)))
        again = from_data(data, ExperimentConfig, allow=("experiments", type(experiment).__module__))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it is what is looked for
        return f"{type(error).__name__}: {error}"
    return "" if again == resolved else "another one comes back from JSON"


def check_text(folder: Path) -> dict[str, str]:
    """What pyright and ruff say of the files in a folder, by the tool; nothing where all is well."""
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)], "stubPath": str(ROOT / ".typings")}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--line-length=110", "--isolated", "."]
    known = "lint.isort.known-first-party=['detcfg', 'experiments']"
    commands = {
        "pyright": [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
        "ruff format": [*ruff, "format", "--check", *options],
        "ruff check": [*ruff, "check", "--select=I,F", "--config", known, *options],
    }
    done = {tool: _run(command, folder) for tool, command in commands.items()}
    return {tool: one.stdout + one.stderr for tool, one in done.items() if one.returncode}


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def main() -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = write_all(Path(sys.argv[1]), Path(folder), *sys.argv[2:])
        print(found, f"in {time.monotonic() - start:.0f} s", flush=True)  # noqa: T201
        complaints = check_text(Path(folder))
    for tool, text in complaints.items():
        print(f"{tool}:\n{text}")  # noqa: T201
    print(f"types and format in {time.monotonic() - start:.0f} s")  # noqa: T201
    if found.broken or complaints:
        sys.exit("An experiment that was written does not hold what is promised of it.")


if __name__ == "__main__":
    main()
