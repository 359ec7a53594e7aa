"""What the values of a config can do, and what it costs: arithmetic, items, comparisons, text.

The lower half of `detcfg.interop.mmdet.evaluate`, which works out the statements and expressions; the
functions that a config may call (`detcfg.interop.mmdet.functions`) need this half alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from detcfg.interop.mmdet.budget import Budget
from detcfg.interop.mmdet.data import (
    Location,
    Node,
    ReadError,
    hooked,
    is_list,
    is_number,
    is_tuple,
    keys_shown,
    kind_of,
    shown,
)

_SPEC: Final = re.compile(r"[<>=^]?[-+ ]?0?\d{0,2},?(\.\d{1,2})?[bdeEfFgGnosxX%]?", re.ASCII)
"""The format specifications that are applied: no width of a billion."""


class Operations:
    """Operations on the values of one file. Each pays for its work first, and refuses what is not plain data.

    Every method takes the syntax node that it is done for, whose line an error names.

    Args:
        path: The file, for messages and for `{{ fileDirname }}`.
        budget: What it may cost.
    """

    def __init__(self, path: Path, budget: Budget) -> None:
        self.path, self.budget = path, budget

    def location(self, node: ast.AST) -> Location:
        """Where `node` stands."""
        return Location(self.path, int(getattr(node, "lineno", 1)))

    def refused(self, node: ast.AST, why: str) -> ReadError:
        """The error to raise for `node`."""
        return ReadError(f"{self.location(node)}: {why}")

    def key(self, node: ast.AST, key: Any) -> Any:
        """`key`, if a dict may have it."""
        if isinstance(key, str | int | float) or key is None:
            return key
        raise self.refused(node, f"{kind_of(key)} cannot be a key.")

    def unpacked(self, node: ast.AST, value: Any) -> list[Any]:
        """The items of a sequence, or the keys of a dict."""
        if not (isinstance(value, str | range | Node) or is_list(value) or is_tuple(value)):
            raise self.refused(node, f"{kind_of(value)} is not a sequence.")
        self.budget.spend(len(value), self.location(node))
        return list(value)

    def formatted(self, node: ast.AST, value: Any, spec: str, conversion: str) -> str:
        """`value` inside a string, as `{value!conversion:spec}` writes it."""
        self.budget.visit(value, self.location(node))
        if not _SPEC.fullmatch(spec):
            raise self.refused(node, f"the format {spec[:40]!r} is not read.")
        if conversion in ("r", "a"):
            value = repr(value)
        if isinstance(value, str | int | float):
            return format(value, spec)
        return format(str(value), spec)

    # Items

    def item(self, node: ast.AST, owner: Any, key: Any) -> Any:
        """`owner[key]`."""
        if isinstance(owner, Node):
            if self.key(node, key) not in owner:
                raise self.refused(node, f"there is no key {shown(key)}; there are {keys_shown(owner)}.")
            return owner[key]
        if is_list(owner) or is_tuple(owner) or isinstance(owner, str):
            return owner[key]
        raise self.refused(node, f"{kind_of(owner)} has no items.")

    def sliced(self, node: ast.AST, owner: Any, bounds: list[Any]) -> Any:
        """`owner[start:stop:step]`, with `bounds` as slice() takes them."""
        if not (is_list(owner) or is_tuple(owner) or isinstance(owner, str)):
            raise self.refused(node, f"{kind_of(owner)} cannot be sliced.")
        self.budget.spend(len(owner), self.location(node))
        return owner[slice(*bounds)]

    def set_item(self, node: ast.AST, owner: Any, key: Any, value: Any) -> None:
        """`owner[key] = value`."""
        if isinstance(owner, Node):
            owner.put(self.key(node, key), self._held(node, owner, value), self.location(node))
        elif is_list(owner) and type(key) is int and -len(owner) <= key < len(owner):
            owner[key] = value
        else:
            raise self.refused(node, f"{kind_of(owner)} has no item {shown(key)} to set.")

    def set_attribute(self, node: ast.AST, owner: Any, name: str, value: Any) -> None:
        """`owner.name = value`, which sets a key of a base's dict."""
        if not (isinstance(owner, Node) and owner.merging):
            raise self.refused(node, f"an attribute of {kind_of(owner)} cannot be set.")
        owner.put(name, self._held(node, owner, value), self.location(node))

    def delete_item(self, node: ast.AST, owner: Any, key: Any) -> None:
        """`del owner[key]`."""
        if isinstance(owner, Node) and self.key(node, key) in owner:
            owner.drop(key)
        elif is_list(owner) and type(key) is int and -len(owner) <= key < len(owner):
            del owner[key]
        else:
            raise self.refused(node, f"there is no {shown(key)} to delete.")

    def _held(self, node: ast.AST, owner: Node, value: Any) -> Any:
        """`value` as `owner` holds it."""
        if not owner.merging:
            return value
        self.budget.visit(value, self.location(node))
        return hooked(value)

    # Operators

    def unary(self, node: ast.AST, op: ast.unaryop, value: Any) -> Any:
        """`not value`, `-value` or `+value`."""
        if isinstance(op, ast.Not):
            return not value
        if not is_number(value) or isinstance(op, ast.Invert):
            raise self.refused(node, f"{kind_of(value)} has no sign.")
        return -value if isinstance(op, ast.USub) else +value

    def compared(self, node: ast.AST, left: Any, op: ast.cmpop, right: Any) -> bool:
        """Whether `left op right`."""
        location = self.location(node)
        self.budget.visit(left, location)
        self.budget.visit(right, location)
        return _COMPARISONS[type(op)](left, right)

    def binary(self, node: ast.AST, left: Any, op: ast.operator, right: Any) -> Any:  # noqa: PLR0911 - one return a kind of operand
        """`left op right`."""
        location = self.location(node)
        if is_number(left) and is_number(right):
            return self._arithmetic(node, left, op, right)
        match op:
            case ast.Add() if isinstance(left, str) and isinstance(right, str):
                self.budget.text(len(left) + len(right), location)
                return left + right
            case ast.Add() if is_list(left) and is_list(right):
                self.budget.spend(len(left) + len(right), location)
                return left + right
            case ast.Add() if is_tuple(left) and is_tuple(right):
                self.budget.spend(len(left) + len(right), location)
                return left + right
            case ast.Mult() if isinstance(left, int) and isinstance(right, str | list | tuple):
                return self._repeated(node, right, left)
            case ast.Mult() if isinstance(right, int) and isinstance(left, str | list | tuple):
                return self._repeated(node, left, right)
            case ast.BitOr() if isinstance(left, Node) and isinstance(right, Node):
                self.budget.spend(len(left) + len(right), location)
                made = left.copied()
                for key, value in right.items():
                    made.take(key, right, value)
                return made
            case _:
                raise self.refused(
                    node, f"{kind_of(left)} and {kind_of(right)} cannot be combined like this."
                )

    def _repeated(self, node: ast.AST, value: Any, times: int) -> Any:
        length = len(value) * max(times, 0)
        if isinstance(value, str):
            self.budget.text(length, self.location(node))
        else:
            self.budget.spend(length, self.location(node))
        return value * times

    def _arithmetic(self, node: ast.AST, left: float, op: ast.operator, right: float) -> float:
        if isinstance(left, int) and isinstance(right, int):
            if isinstance(op, ast.Pow):
                self.budget.integer(left.bit_length() * max(right, 0), self.location(node))
            elif isinstance(op, ast.Mult):
                self.budget.integer(left.bit_length() + right.bit_length(), self.location(node))
        function = _ARITHMETIC.get(type(op))
        if function is None:
            raise self.refused(node, f"the operation {type(op).__name__} on numbers is not read.")
        result = function(left, right)
        if not is_number(result):
            raise self.refused(node, f"{type(result).__name__} is not a value of a config.")
        if isinstance(result, int):
            self.budget.integer(result.bit_length(), self.location(node))
        return result


def _power(left: float, right: float) -> Any:
    return left**right


_ARITHMETIC: Final[dict[type[ast.operator], Callable[[float, float], Any]]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: lambda left, right: left % right,
    ast.Pow: _power,
}
_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: lambda left, right: bool(left == right),
    ast.NotEq: lambda left, right: bool(left != right),
    ast.Lt: lambda left, right: bool(left < right),
    ast.LtE: lambda left, right: bool(left <= right),
    ast.Gt: lambda left, right: bool(left > right),
    ast.GtE: lambda left, right: bool(left >= right),
    ast.Is: lambda left, right: left is right,
    ast.IsNot: lambda left, right: left is not right,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
