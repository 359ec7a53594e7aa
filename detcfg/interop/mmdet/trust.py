"""Run a config that the user trusts (`--trust`), and take the plain data that it leaves.

Only what MMDetection's packages would have provided is left out: their classes become names.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, cast

from detcfg.interop.mmdet.budget import Budget
from detcfg.interop.mmdet.data import Location, Node, ReadError, TypeName, is_list, is_tuple


class _Attributes(dict[str, Any]):
    """A base's dict: keys are attributes, and `update` merges."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def update(self, *others: Mapping[str, Any], **named: Any) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        for other in (*others, named):
            for key, value in other.items():
                inner = self.get(key)
                if isinstance(inner, _Attributes) and isinstance(value, Mapping):
                    inner.update(cast("Mapping[str, Any]", value))
                else:
                    self[key] = _opened(value)


def execute(path: Path, body: Sequence[ast.stmt], names: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    """Run `body` with `names`, and return the variables that are data."""
    statements = [statement for statement in body if not isinstance(statement, ast.With)]
    given = {name: _opened(value) for name, value in names.items()}
    scope: dict[str, Any] = {**given, "__file__": str(path), "__name__": "config"}
    rest: list[ast.stmt] = []
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom) and not _is_there(statement):
            for alias in statement.names:
                prefix = f"{statement.module}." if isinstance(statement, ast.ImportFrom) else ""
                scope[alias.asname or alias.name.partition(".")[0]] = TypeName(prefix + alias.name)
        else:
            rest.append(statement)
    code = compile(ast.Module(body=rest, type_ignores=[]), str(path), "exec")
    try:
        exec(code, scope)  # noqa: S102 - the user asked for it by --trust
    except Exception as error:  # noqa: BLE001 - whatever the file does wrong is shown at its line
        traceback, line = error.__traceback__, 1
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == str(path):
                line = traceback.tb_lineno
            traceback = traceback.tb_next
        raise ReadError(f"{path}:{line}: {type(error).__name__}: {error}") from None
    location = Location(path, 1)
    # What was bound by an import, or never was data, is left out as MMDetection leaves it out.
    found = {
        name: _closed(value, location)
        for name, value in scope.items()
        if not name.startswith("__")
        and name != "_base_"
        and not isinstance(value, FunctionType | ModuleType | type)
    }
    base = scope.get("_base_")
    if isinstance(base, _Attributes) and isinstance(names.get("_base_"), Node):
        _refill(cast("Node", names["_base_"]), base, location)
    budget.visit(Node(found), location)
    return found


def _is_there(statement: ast.Import | ast.ImportFrom) -> bool:
    """Whether an import is of the standard library, or of something other than MMDetection's packages."""
    module = statement.module if isinstance(statement, ast.ImportFrom) else statement.names[0].name
    top = (module or "").partition(".")[0]
    return top in sys.stdlib_module_names or not top.startswith(("mm", "torch"))


def _opened(value: Any) -> Any:
    """A value as the code of a config meets it."""
    if isinstance(value, Mapping):
        made = _Attributes()
        for key, item in cast("Mapping[str, Any]", value).items():
            made[key] = _opened(item)
        return made
    if is_list(value):
        return [_opened(item) for item in value]
    if is_tuple(value):
        return tuple(_opened(item) for item in value)
    return value


def _closed(value: Any, location: Location) -> Any:
    """Plain data again; what is not becomes the name of what it is."""
    if isinstance(value, Mapping):
        made = Node()
        for key, item in cast("Mapping[object, object]", value).items():
            made.put(key, _closed(item, location), location)
        return made
    if is_list(value) or isinstance(value, range | set):
        return [_closed(item, location) for item in cast("list[Any]", value)]
    if is_tuple(value):
        return tuple(_closed(item, location) for item in value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, FunctionType | type):
        return TypeName(f"{value.__module__}.{value.__qualname__}")
    raise ReadError(f"{location}: {type(value).__name__} is not a value of a config.")


def _refill(base: Node, changed: _Attributes, location: Location) -> None:
    """Take over what the code changed in its bases."""
    for key in [key for key in base if key not in changed]:
        base.drop(key)
    for key, value in changed.items():
        base.take(key, base, _closed(value, location))
