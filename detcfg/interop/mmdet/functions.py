"""The functions and methods of plain data that a config may call.

Each is given the operations of the file, which it pays for its work, and the call's node, which an error names.
"""

from __future__ import annotations

import ast
import string
from collections.abc import Callable, Iterator
from typing import Any, Final

from detcfg.interop.mmdet.data import Node, cloned, hooked, is_list, is_tuple, kind_of, shown
from detcfg.interop.mmdet.merge import merged
from detcfg.interop.mmdet.operations import Operations

MAX_RANGE: Final = 100_000


def _pay(run: Operations, node: ast.Call, value: Any) -> list[Any]:
    return run.unpacked(node, value)


def _range(run: Operations, node: ast.Call, *bounds: Any) -> range:
    if not all(type(bound) is int for bound in bounds):
        raise run.refused(node, "range() needs whole numbers.")
    made = range(*bounds)
    if len(made) > MAX_RANGE:
        raise run.refused(node, f"a range of {len(made):,} is too long.")
    return made


def _len(run: Operations, node: ast.Call, value: Any) -> int:
    if not (isinstance(value, str | range | Node) or is_list(value) or is_tuple(value)):
        raise run.refused(node, f"{kind_of(value)} has no length.")
    return len(value)


def _to_int(run: Operations, node: ast.Call, value: Any = 0) -> int:
    if isinstance(value, str) and len(value) > 20:
        raise run.refused(node, "int() of a long string.")
    return int(value)


def _to_float(run: Operations, node: ast.Call, value: Any = 0.0) -> float:
    if isinstance(value, str) and len(value) > 40:
        raise run.refused(node, "float() of a long string.")
    return float(value)


def _to_str(run: Operations, node: ast.Call, value: Any = "") -> str:
    return run.formatted(node, value, "", "s")


def _extreme(pick: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    def function(run: Operations, node: ast.Call, *values: Any) -> Any:
        items = _pay(run, node, values[0]) if len(values) == 1 else list(values)
        run.budget.visit(items, run.location(node))
        return pick(items)

    return function


def _sum(run: Operations, node: ast.Call, values: Any, start: Any = 0) -> Any:
    total = start
    for item in _pay(run, node, values):
        total = run.binary(node, total, ast.Add(), item)
    return total


def _round(run: Operations, node: ast.Call, value: Any, digits: int | None = None) -> Any:
    if digits is not None and not -20 < digits < 20:  # 10**digits is worked out for whole numbers
        raise run.refused(node, "round() to that many digits.")
    return round(value, digits)


def _enumerate(run: Operations, node: ast.Call, values: Any, start: int = 0) -> list[Any]:
    return list(enumerate(_pay(run, node, values), start))


def _zip(run: Operations, node: ast.Call, *columns: Any) -> list[Any]:
    return list(zip(*(_pay(run, node, column) for column in columns), strict=False))


def _list(run: Operations, node: ast.Call, value: Any = ()) -> list[Any]:
    return _pay(run, node, value)


def _tuple(run: Operations, node: ast.Call, value: Any = ()) -> tuple[Any, ...]:
    return tuple(_pay(run, node, value))


def _reversed(run: Operations, node: ast.Call, value: Any) -> list[Any]:
    return _pay(run, node, value)[::-1]


def _any(run: Operations, node: ast.Call, value: Any) -> bool:
    return any(_pay(run, node, value))


def _all(run: Operations, node: ast.Call, value: Any) -> bool:
    return all(_pay(run, node, value))


def _bool(_run: Operations, _node: ast.Call, value: Any = False) -> bool:  # noqa: FBT002 - as bool() has it
    return bool(value)


def _abs(_run: Operations, _node: ast.Call, value: float) -> float:
    return abs(value)


# `dict(...)` is not among them: the evaluator keeps where each of its keywords is written.
FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "list": _list,
    "tuple": _tuple,
    "range": _range,
    "len": _len,
    "int": _to_int,
    "float": _to_float,
    "str": _to_str,
    "bool": _bool,
    "min": _extreme(min),
    "max": _extreme(max),
    "sorted": _extreme(sorted),
    "sum": _sum,
    "abs": _abs,
    "round": _round,
    "enumerate": _enumerate,
    "zip": _zip,
    "reversed": _reversed,
    "any": _any,
    "all": _all,
}


def _format(run: Operations, node: ast.Call, template: str, *values: Any, **named: Any) -> str:
    parts: list[str] = []
    fields = dict(enumerate(values)) | named
    count = 0
    for literal, name, spec, conversion in string.Formatter().parse(template):
        parts.append(literal)
        if name is None:
            continue
        key = int(name) if name.isdecimal() and len(name) < 4 else name
        if not name:
            key, count = count, count + 1
        if key not in fields:
            raise run.refused(node, f"the field {name[:40]!r} of the template is none of the values.")
        parts.append(run.formatted(node, fields[key], spec or "", conversion or ""))
        run.budget.text(sum(map(len, parts)), run.location(node))
    return "".join(parts)


def _join(run: Operations, node: ast.Call, separator: str, values: Any) -> str:
    items = _pay(run, node, values)
    if not all(isinstance(item, str) for item in items):
        raise run.refused(node, "join() needs strings.")
    run.budget.text(sum(map(len, items)) + len(separator) * len(items), run.location(node))
    return separator.join(items)


def _replace(run: Operations, node: ast.Call, text: str, old: str, new: str) -> str:
    run.budget.text(len(text) + (text.count(old) if old else len(text) + 1) * len(new), run.location(node))
    return text.replace(old, new)


def _split(run: Operations, node: ast.Call, text: str, separator: str | None = None) -> list[str]:
    run.budget.spend(len(text), run.location(node))
    return text.split(separator)


def _of_text(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(run: Operations, node: ast.Call, text: str, *values: Any) -> Any:
        run.budget.text(len(text), run.location(node))
        return function(text, *values)

    return method


def _update(run: Operations, node: ast.Call, owner: Node, *others: Any, **named: Any) -> None:
    made = Node()
    for other in others:
        if isinstance(other, Node):
            for key, value in other.items():
                made.take(key, other, value)
        else:
            for pair in _pay(run, node, other):
                key, value = _pay(run, node, pair)
                made.put(run.key(node, key), value, run.location(node))
    for key, value in named.items():
        made.put(key, value, run.location(node))
    run.budget.visit(made, run.location(node))
    update(owner, made)


def update(owner: Node, other: Node) -> None:
    """`owner.update(other)`: a base config's dict merges, any other takes the values over."""
    for key, value in other.items():
        inner = owner.get(key)
        if owner.merging and isinstance(inner, Node) and isinstance(value, Node):
            update(inner, value)
        else:
            owner.take(key, other, hooked(value) if owner.merging else value)


def _merge(run: Operations, node: ast.Call, owner: Node, other: Any) -> None:
    if not (owner.merging and isinstance(other, Node)):
        raise run.refused(node, "merge() is for a base's dict, with a dict.")
    run.budget.visit(other, run.location(node))
    run.budget.visit(owner, run.location(node))
    merged(hooked(cloned(other)), owner, run.location(node))


_ABSENT: Final = object()


def _pop(run: Operations, node: ast.Call, owner: Node, key: Any, default: Any = _ABSENT) -> Any:
    if run.key(node, key) in owner:
        return owner.drop(key)
    if default is _ABSENT and not owner.merging:
        raise run.refused(node, f"there is no key {shown(key)} to pop.")
    return None if default is _ABSENT else default


def _setdefault(run: Operations, node: ast.Call, owner: Node, key: Any, default: Any = None) -> Any:
    if run.key(node, key) not in owner:
        owner.put(key, default, run.location(node))
    return owner[key]


def _copied(run: Operations, node: ast.Call, owner: Any) -> Any:
    run.budget.spend(len(owner), run.location(node))
    return owner.copied() if isinstance(owner, Node) else list(owner)


def _of_dict(function: Callable[[Node], Iterator[Any] | list[Any]]) -> Callable[..., list[Any]]:
    def method(run: Operations, node: ast.Call, owner: Node) -> list[Any]:
        run.budget.spend(len(owner), run.location(node))
        return list(function(owner))

    return method


def _extend(run: Operations, node: ast.Call, owner: list[Any], values: Any) -> None:
    owner.extend(_pay(run, node, values))


def _position(run: Operations, node: ast.Call, owner: Any, value: Any) -> int:
    run.budget.visit(owner, run.location(node))
    return int(owner.index(value))


def _get(run: Operations, node: ast.Call, owner: Node, key: Any, default: Any = None) -> Any:
    return owner.get(run.key(node, key), default)


def _append(_run: Operations, _node: ast.Call, owner: list[Any], value: Any) -> None:
    owner.append(value)


def _insert(_run: Operations, _node: ast.Call, owner: list[Any], index: int, value: Any) -> None:
    owner.insert(index, value)


def _pop_item(_run: Operations, _node: ast.Call, owner: list[Any], index: int = -1) -> Any:
    return owner.pop(index)


def _reverse(_run: Operations, _node: ast.Call, owner: list[Any]) -> None:
    owner.reverse()


METHODS: Final[dict[type[Any], dict[str, Callable[..., Any]]]] = {
    Node: {
        "update": _update,
        "merge": _merge,
        "get": _get,
        "pop": _pop,
        "setdefault": _setdefault,
        "copy": _copied,
        "keys": _of_dict(lambda owner: list(owner.keys())),
        "values": _of_dict(lambda owner: list(owner.values())),
        "items": _of_dict(lambda owner: list(owner.items())),
    },
    list: {
        "append": _append,
        "extend": _extend,
        "insert": _insert,
        "pop": _pop_item,
        "reverse": _reverse,
        "copy": _copied,
        "index": _position,
    },
    tuple: {"index": _position},
    str: {
        "format": _format,
        "join": _join,
        "replace": _replace,
        "split": _split,
        "lower": _of_text(str.lower),
        "upper": _of_text(str.upper),
        "strip": _of_text(str.strip),
        "startswith": _of_text(str.startswith),
        "endswith": _of_text(str.endswith),
    },
}
