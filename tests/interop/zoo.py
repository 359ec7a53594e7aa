"""Import every config of MMDetection's zoo and compare what is built with what MMDetection builds.

    python -m tests.interop.zoo mmdet/.mim/configs

`nox -s zoo` fetches the configs and runs this. Models are built on the meta device: names and shapes only.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
from attrs import Factory, define

from detcfg.detectors.base import DetectorConfig
from detcfg.errors import DetcfgError
from detcfg.interop.mmdet.experiment import NOT_KNOWN, import_config
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.translate import translate_model
from tests.support import figures
from tests.support.zoo import digest

EQUAL_SHARE = 0.95
"""Of the configs whose components detcfg has."""
EQUAL = 400
"""Configs in all."""


@define
class Zoo:
    """What became of the configs that MMDetection itself can build."""

    equal: list[str] = Factory(list[str])
    different: dict[str, str] = Factory(dict[str, str])
    """Why, by config."""
    refused: dict[str, str] = Factory(dict[str, str])
    """The error, by config."""
    silent: dict[str, list[str]] = Factory(dict[str, list[str]])
    """Values that no rule of the importer speaks of, by config; of every config that can be read."""
    missing: dict[str, list[str]] = Factory(dict[str, list[str]])
    """Components that detcfg lacks, by config."""

    @property
    def share(self) -> float:
        """Of the configs whose components are here, those that are equal."""
        count = len(self.equal) + len(self.different) + len(self.refused)
        return len(self.equal) / count if count else 0.0

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for what, found in (("different", self.different), ("refused", self.refused)):
            yield from (f"{what}: {name}: {why}" for name, why in found.items())
        yield from (f"no rule for: {name}: {', '.join(paths)}" for name, paths in self.silent.items())
        wanted = Counter(name for names in self.missing.values() for name in names)
        alone = Counter(names[0] for names in self.missing.values() if len(names) == 1)
        users: defaultdict[str, list[str]] = defaultdict(list)
        for config, names in self.missing.items():
            for name in names:
                users[name].append(config)
        yield f"{'configs':>8} {'alone':>6}  component that detcfg lacks"
        for name, count in wanted.most_common():
            yield f"{count:8} {alone[name]:6}  {name:40} {users[name][0]}"
        yield (
            f"{len(self.equal)} equal, {len(self.different)} different, {len(self.refused)} refused, "
            f"{len(self.missing)} with components that detcfg lacks: {self.share:.1%} of the others equal"
        )


def run(configs: Path, only: str = "") -> Zoo:
    """Import the configs whose path has `only` in it."""
    expected = figures.zoo()
    zoo = Zoo()
    built: dict[str, str] = {}
    for name, one in expected.items():
        if "error" in one or only not in name:
            continue
        try:
            source = read_config(configs / name, config_root=configs)
            if lost := [e.path for e in import_config(source).record.entries if e.note == NOT_KNOWN]:
                zoo.silent[name] = lost
            found = translate_model(source.data["model"])
            if found.missing:
                zoo.missing[name] = sorted({component.name for component in found.missing})
                continue
            got = _built(found.complete, built)
        except DetcfgError as error:
            zoo.refused[name] = str(error)
            continue
        if got == one["sha256"]:
            zoo.equal.append(name)
        else:
            zoo.different[name] = "names or shapes of tensors"
    return zoo


def _built(config: DetectorConfig, known: dict[str, str]) -> str:
    """Many configs differ only in their schedule, so equal models are built once."""
    key = repr(config)
    if key not in known:
        with torch.device("meta"):
            known[key] = digest(config.build())
    return known[key]


def main() -> None:
    start = time.monotonic()
    zoo = run(Path(sys.argv[1]), *sys.argv[2:])
    print(zoo, f"in {time.monotonic() - start:.0f} s")  # noqa: T201
    if zoo.silent:
        sys.exit("Values go lost without a rule that says why.")
    if len(sys.argv) == 2 and (zoo.share < EQUAL_SHARE or len(zoo.equal) < EQUAL):
        sys.exit(f"wanted: {EQUAL} equal, and {EQUAL_SHARE:.0%} of those whose components are here")


if __name__ == "__main__":
    main()
