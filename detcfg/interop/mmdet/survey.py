"""A whole folder of configs: which come over whole, which do not, and what is missing most."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path

from attrs import Factory, define, frozen

from detcfg.config.base import ConfigError
from detcfg.errors import DetcfgError
from detcfg.interop.mmdet.data import Node
from detcfg.interop.mmdet.experiment import import_config
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.record import Status


class Verdict(StrEnum):
    """How a config comes over."""

    WHOLE = "whole"
    PARTLY = "but for some values"
    """Every component is there; some values have no counterpart."""
    MISSING = "components missing"
    REFUSED = "refused"


@frozen(kw_only=True)
class Row:
    """One config."""

    path: Path
    """From the folder."""
    verdict: Verdict
    reasons: tuple[str, ...]
    """Missing components, values without counterpart, or the error."""


@define
class Survey:
    """The configs of a folder."""

    folder: Path
    rows: list[Row] = Factory(list[Row])

    def counts(self) -> Counter[Verdict]:
        """Configs by verdict."""
        return Counter(row.verdict for row in self.rows)

    def most_used(self) -> list[tuple[str, int, int, Path]]:
        """Missing components, the most used first: the name, the number of configs that have it, of those that
        lack nothing else, and one of them."""
        users: defaultdict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            if row.verdict is Verdict.MISSING:
                for name in row.reasons:
                    users[name].append(row)
        counted = [
            (name, len(rows), sum(len(row.reasons) == 1 for row in rows), rows[0].path)
            for name, rows in users.items()
        ]
        return sorted(counted, key=lambda item: (-item[1], -item[2], item[0]))


def survey(
    folder: Path, *, config_root: Path | None = None, trust: bool = False, modules: Collection[str] = ()
) -> Survey:
    """Import every config below a folder, without writing anything.

    Files that are parts of configs (in `_base_`, or without a model) are left out.

    Raises:
        ConfigError: There is no such folder, or no config in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}.")
    found = Survey(folder)
    for path in _configs(folder):
        row = _row(folder, path, config_root, trust=trust, modules=modules)
        if row is not None:
            found.rows.append(row)
    if not found.rows:
        raise ConfigError(f"{folder} has no MMDetection config: no .py file in it has a `model`.")
    return found


def _configs(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if "_base_" not in path.relative_to(folder).parts and path.name != "__init__.py":
            yield path


def _row(
    folder: Path, path: Path, config_root: Path | None, *, trust: bool, modules: Collection[str]
) -> Row | None:
    name = path.relative_to(folder)
    try:
        source = read_config(path, config_root=config_root, trust=trust)
        if not isinstance(source.data.get("model"), Node):
            return None
        imported = import_config(source, modules=modules)
    except DetcfgError as error:
        return Row(path=name, verdict=Verdict.REFUSED, reasons=(str(error),))
    if imported.missing:
        names = dict.fromkeys(missing.name for missing in imported.missing)
        return Row(path=name, verdict=Verdict.MISSING, reasons=tuple(names))
    unsupported = tuple(dict.fromkeys(e.path for e in imported.record.of(Status.UNSUPPORTED)))
    return Row(path=name, verdict=Verdict.PARTLY if unsupported else Verdict.WHOLE, reasons=unsupported)
