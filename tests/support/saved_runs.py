"""What earlier versions saved: archives of each experiment's `experiment.json`, by the commit that wrote them.

`python -m tests.support.saved_runs COMMIT` writes today's: the first thing to do before a change that moves or renames.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from functools import cache
from pathlib import Path

from detcfg.config.load import SAVED_NAME
from detcfg.config.moved import SHIPPED_FOLDER
from detcfg.config.serialize import to_data
from detcfg.experiment import load_experiment

FOLDER = Path(__file__).parents[1] / "config" / "saved_runs"


@cache
def saved_runs(archive: Path) -> dict[str, str]:
    """The text of each run's file, by the name of its experiment."""
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {Path(name).parent.name: file.read().decode() for name, file in files.items() if file}


def write(archive: Path) -> None:
    """Save every experiment that comes with detcfg, as its training would."""
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in sorted(SHIPPED_FOLDER.glob("*.py")):
            data = json.dumps(to_data(load_experiment(path).resolved()), indent=2).encode()
            member = tarfile.TarInfo(f"{path.stem}/{SAVED_NAME}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    write(FOLDER / f"{sys.argv[1]}.tar.xz")
