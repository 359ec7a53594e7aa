"""Work out a config file without running it: the part of Python that configs are written in.

Literals, `dict(...)`, names, items, arithmetic, comprehensions, f-strings, `if`, `for` and the methods of
plain data. Everything else is refused by file:line, before anything happens; nothing is ever imported
or called. Sizes are limited by a `Budget`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from detcfg.interop.mmdet.budget import MAX_DEPTH, STEP, Budget
from detcfg.interop.mmdet.data import (
    Location,
    Node,
    ReadError,
    TypeName,
    cloned,
    is_list,
    keys_shown,
    kind_of,
    shown,
)
from detcfg.interop.mmdet.functions import FUNCTIONS, METHODS
from detcfg.interop.mmdet.operations import Operations

_TEMPLATE: Final = re.compile(r"\{\{\s{0,9}(_base_(?:\.\w{1,99}){1,20}|file\w{1,30})\s{0,9}\}\}")
"""`{{ _base_.model.neck }}` or `{{ fileDirname }}` inside a string."""

_MISTAKES: Final = (ArithmeticError, TypeError, ValueError, LookupError)
"""What Python raises for an operation on plain data that makes no sense."""


class Break(Exception):  # noqa: N818 - control flow of the interpreted config, not an error
    """`break` of the loop that is being worked out."""


class Continue(Exception):  # noqa: N818
    """`continue` of the loop that is being worked out."""


class Evaluator(Operations):
    """Works out the statements and expressions of one file.

    Args:
        path: The file, for messages and for `{{ fileDirname }}`.
        budget: What it may cost.
        names: The variables that are there before, such as `_base_`.
    """

    def __init__(self, path: Path, budget: Budget, names: Mapping[str, Any] | None = None) -> None:
        super().__init__(path, budget)
        self.scopes: list[dict[str, Any]] = [dict(names or {})]
        self.locations: dict[str, Location] = {}
        self.imported: set[str] = set()
        self._depth = self._loops = 0

    @property
    def names(self) -> dict[str, Any]:
        """The variables of the file."""
        return self.scopes[0]

    # Statements

    def run(self, body: Sequence[ast.stmt]) -> None:
        """Work out statements in order."""
        for statement in body:
            self.budget.spend(STEP, self.location(statement))
            try:
                self._statement(statement)
            except _MISTAKES as error:  # such as `x //= 0`
                raise ReadError(f"{self.location(statement)}: {error}") from None

    def _statement(self, node: ast.stmt) -> None:  # noqa: PLR0912 - one branch a kind of statement
        match node:
            case ast.Assign():
                value = self.value(node.value)
                for target in node.targets:
                    self._assign(target, value)
            case ast.AnnAssign(value=ast.expr() as expression):
                self._assign(node.target, self.value(expression))
            case ast.AugAssign():
                self._augment(node)
            case ast.Expr():
                self.value(node.value)
            case ast.If():
                self.run(node.body if self.value(node.test) else node.orelse)
            case ast.For():
                self._for(node)
            case ast.Delete():
                for target in node.targets:
                    self._delete(target)
            case ast.Pass():
                pass
            case ast.Break() | ast.Continue():
                if not self._loops:
                    raise self.refused(node, f"`{ast.unparse(node)}` outside a loop.")
                raise Break if isinstance(node, ast.Break) else Continue
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case _:
                kind = _KINDS.get(type(node).__name__, type(node).__name__.lower())
                raise self.refused(node, f"{kind} is more than plain data.")

    def _augment(self, node: ast.AugAssign) -> None:
        old, new = self.value(node.target), self.value(node.value)
        if is_list(old) and isinstance(node.op, ast.Add):
            old.extend(self.unpacked(node, new))
        else:
            self._assign(node.target, self.binary(node, old, node.op, new))

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Bind what is imported as mere names: nothing is loaded, and nothing can be called but `deepcopy`."""
        modules = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            if node.level or any(alias.name == "*" for alias in node.names):
                raise self.refused(node, "a base config is imported inside `with read_base():`.")
        for module in modules:
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names and top != "copy":
                raise self.refused(
                    node, f"`{ast.unparse(node)[:80]}` would run other code, which reading never does."
                )
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self._check_name(node, name)
            if isinstance(node, ast.ImportFrom):
                self.names[name] = TypeName(f"{node.module}.{alias.name}")
            else:
                self.names[name] = TypeName(alias.name if alias.asname else name)
            self.imported.add(name)

    def _for(self, node: ast.For) -> None:
        for item in self._items(node.iter):
            self._assign(node.target, item)
            self._loops += 1
            try:
                self.run(node.body)
            except Break:
                return
            except Continue:
                continue
            finally:
                self._loops -= 1
        self.run(node.orelse)

    def _assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name():
                self._check_name(target, target.id)
                self.scopes[-1][target.id] = value
                self.locations[target.id] = self.location(target)
            case ast.Tuple() | ast.List():
                items = self.unpacked(target, value)
                if len(items) != len(target.elts):
                    raise self.refused(target, f"{len(items)} values for {len(target.elts)} names.")
                for element, item in zip(target.elts, items, strict=True):
                    self._assign(element, item)
            case ast.Subscript():
                self.set_item(target, self.value(target.value), self.value(target.slice), value)
            case ast.Attribute():
                owner = self.value(target.value)
                self._check_name(target, target.attr)
                self.set_attribute(target, owner, target.attr, value)
            case _:
                raise self.refused(target, f"nothing can be assigned to `{ast.unparse(target)[:60]}`.")

    def _delete(self, target: ast.expr) -> None:
        match target:
            case ast.Name() if target.id in self.scopes[-1]:
                del self.scopes[-1][target.id]
            case ast.Attribute() | ast.Subscript():
                owner = self.value(target.value)
                key = target.attr if isinstance(target, ast.Attribute) else self.value(target.slice)
                self.delete_item(target, owner, key)
            case _:
                raise self.refused(target, f"there is no `{ast.unparse(target)[:60]}` to delete.")

    # Expressions

    def value(self, node: ast.expr) -> Any:
        """The value of an expression."""
        self.budget.spend(STEP, self.location(node))
        if self._depth > 2 * MAX_DEPTH:
            raise self.refused(node, "expressions are nested too deep.")
        self._depth += 1
        try:
            return self._value(node)
        except _MISTAKES as error:
            raise ReadError(f"{self.location(node)}: {error}") from None
        finally:
            self._depth -= 1

    def _value(self, node: ast.expr) -> Any:  # noqa: PLR0911, PLR0912 - one branch a kind of expression
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.Dict():
                return self._dict(node)
            case ast.List():
                return self._elements(node.elts)
            case ast.Tuple():
                return tuple(self._elements(node.elts))
            case ast.Set(elts=[ast.Set(elts=[inner])]):
                return self._template(inner)
            case ast.Call():
                return self._call(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.BinOp():
                return self.binary(node, self.value(node.left), node.op, self.value(node.right))
            case ast.UnaryOp():
                return self.unary(node, node.op, self.value(node.operand))
            case ast.BoolOp():
                return self._bool(node)
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp():
                return self.value(node.body if self.value(node.test) else node.orelse)
            case ast.ListComp() | ast.GeneratorExp():
                return self._comprehension(node.generators, lambda: self.value(node.elt))
            case ast.DictComp():
                pairs = self._comprehension(
                    node.generators, lambda: (self.value(node.key), self.value(node.value))
                )
                made = Node()
                for key, value in pairs:
                    made.put(self.key(node, key), value, self.location(node.value))
                return made
            case ast.JoinedStr():
                return self._joined(node)
            case _:
                kind = _KINDS.get(type(node).__name__, f"`{ast.unparse(node)[:60]}`")
                raise self.refused(node, f"{kind} is more than plain data.")

    def _constant(self, node: ast.Constant) -> Any:
        value: object = node.value
        if isinstance(value, str):
            self.budget.text(len(value), self.location(node))
            return self._substituted(node, value)
        if isinstance(value, int):
            self.budget.integer(value.bit_length(), self.location(node))
        if value is None or isinstance(value, bool | int | float):
            return value
        raise self.refused(node, f"{type(value).__name__} is not a value of a config.")

    def _check_name(self, node: ast.AST, name: str) -> None:
        if name.startswith("__"):
            raise self.refused(node, f"the name {shown(name)} reaches behind the data.")

    def _name(self, node: ast.Name) -> Any:
        self._check_name(node, node.id)
        for scope in reversed(self.scopes):
            if node.id in scope:
                return scope[node.id]
        if node.id in ("inf", "nan"):  # as a dumped config writes them
            return float(node.id)
        raise self.refused(node, f"the name {shown(node.id)} stands for no value here.")

    def _elements(self, nodes: Sequence[ast.expr]) -> list[Any]:
        made: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                made += self._items(node.value)
            else:
                made.append(self.value(node))
        return made

    def _dict(self, node: ast.Dict) -> Node:
        made = Node()
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                self._take_all(value, made)
            else:
                made.put(self.key(key, self.value(key)), self.value(value), self.location(value))
        return made

    def _take_all(self, node: ast.expr, made: Node) -> None:
        other = self.value(node)
        if not isinstance(other, Node):
            raise self.refused(node, f"`**` needs a dict, not {kind_of(other)}.")
        self.budget.spend(len(other), self.location(node))
        for key, value in other.items():
            made.put(key, value, other.locations.get(key, self.location(node)))

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name):
            name = node.func.id
            self._check_name(node, name)
            bound = any(name in scope for scope in self.scopes)
            if bound and self._name(node.func) in _COPIES:
                return self._deepcopy(node)
            if name == "dict" and not bound:
                return self._dict_call(node)
            function = None if bound else FUNCTIONS.get(name)
            if function is None:
                raise self.refused(
                    node, f"calls {name:.60}(), and a config that is read only makes plain data."
                )
            return function(self, node, *self._positional(node))
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value)
            name = node.func.attr
            if isinstance(owner, TypeName) and f"{owner}.{name}" in _COPIES:
                return self._deepcopy(node)
            for kind, methods in METHODS.items():
                if isinstance(owner, kind) and name in methods and not isinstance(owner, TypeName):
                    if name == "update" or (name == "format" and isinstance(owner, str)):
                        return methods[name](
                            self, node, owner, *self._elements(node.args), **self._keywords(node)
                        )
                    return methods[name](self, node, owner, *self._positional(node))
            raise self.refused(
                node, f"calls .{name:.60}() of {kind_of(owner)}, which is not a method of plain data."
            )
        raise self.refused(node, f"calls `{ast.unparse(node.func)[:60]}`.")

    def _deepcopy(self, node: ast.Call) -> Any:
        (value,) = self._positional(node)
        self.budget.visit(value, self.location(node))
        return cloned(value)

    def _positional(self, node: ast.Call) -> list[Any]:
        if node.keywords:
            if node.keywords[0].arg == "default" and len(node.keywords) == 1:
                return [*self._elements(node.args), self.value(node.keywords[0].value)]
            raise self.refused(node, f"`{ast.unparse(node.func)[:60]}` is called with keywords.")
        return self._elements(node.args)

    def _keywords(self, node: ast.Call) -> dict[str, Any]:
        made = Node()
        self._keywords_into(node, made)
        return {str(key): value for key, value in made.items()}

    def _keywords_into(self, node: ast.Call, made: Node) -> None:
        for keyword in node.keywords:
            if keyword.arg is None:
                self._take_all(keyword.value, made)
            else:
                made.put(keyword.arg, self.value(keyword.value), self.location(keyword))

    def _dict_call(self, node: ast.Call) -> Node:
        made = Node()
        for argument in self._elements(node.args):
            if isinstance(argument, Node):
                for key, value in argument.items():
                    made.take(key, argument, value)
                continue
            for pair in self.unpacked(node, argument):
                key, value = self.unpacked(node, pair)
                made.put(self.key(node, key), value, self.location(node))
        self.budget.spend(len(made), self.location(node))
        self._keywords_into(node, made)
        return made

    def _attribute(self, node: ast.Attribute) -> Any:
        owner = self.value(node.value)
        self._check_name(node, node.attr)
        if isinstance(owner, TypeName):
            self.budget.text(len(owner) + len(node.attr), self.location(node))
            return TypeName(f"{owner}.{node.attr}")
        if isinstance(owner, Node) and owner.merging:
            if node.attr in owner:
                return owner[node.attr]
            raise self.refused(node, f"the base has no {shown(node.attr)}; it has {keys_shown(owner)}.")
        raise self.refused(node, f"an attribute of {kind_of(owner)} ({shown(node.attr)}) is not data.")

    def _subscript(self, node: ast.Subscript) -> Any:
        owner = self.value(node.value)
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            bounds = [None if part is None else self.value(part) for part in parts]
            return self.sliced(node, owner, bounds)
        return self.item(node, owner, self.value(node.slice))

    def _bool(self, node: ast.BoolOp) -> Any:
        value: Any = None
        for part in node.values:
            value = self.value(part)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def _compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part)
            if not self.compared(node, left, op, right):
                return False
            left = right
        return True

    def _comprehension(
        self, generators: Sequence[ast.comprehension], element: Callable[[], Any]
    ) -> list[Any]:
        made: list[Any] = []
        self.scopes.append({})
        try:
            self._generate(generators, lambda: made.append(element()))
        finally:
            self.scopes.pop()
        return made

    def _generate(self, generators: Sequence[ast.comprehension], found: Callable[[], None]) -> None:
        if not generators:
            found()
            return
        first, *rest = generators
        for item in self._items(first.iter):
            self._assign(first.target, item)
            if all(self.value(condition) for condition in first.ifs):
                self._generate(rest, found)

    def _items(self, node: ast.expr) -> list[Any]:
        return self.unpacked(node, self.value(node))

    def _joined(self, node: ast.JoinedStr) -> str:
        parts: list[str] = []
        for part in node.values:
            if not isinstance(part, ast.FormattedValue):
                parts.append(str(self.value(part)))
                continue
            value = self.value(part.value)
            spec = "" if part.format_spec is None else str(self.value(part.format_spec))
            parts.append(
                self.formatted(part, value, spec, "" if part.conversion < 0 else chr(part.conversion))
            )
        self.budget.text(sum(map(len, parts)), self.location(node))
        return "".join(parts)

    # Variables in double braces

    def _template(self, inner: ast.expr) -> Any:
        """`{{ _base_.x }}` and `{{ fileDirname }}` outside a string, which Python takes for sets."""
        if isinstance(inner, ast.Name) and inner.id in self._variables():
            return self._variables()[inner.id]
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            return self.value(inner)
        return self.value(inner)

    def _variables(self) -> dict[str, str]:
        path = self.path
        return {
            "fileDirname": path.parent.as_posix(),
            "fileBasename": path.name,
            "fileBasenameNoExtension": path.stem,
            "fileExtname": path.suffix,
        }

    def _substituted(self, node: ast.Constant, text: str) -> Any:
        """A string with its variables filled in; one that is nothing but a variable becomes its value."""
        if "{{" not in text:
            return text
        whole = _TEMPLATE.fullmatch(text.strip())
        if whole:
            return self._variable(node, whole[1])
        filled = _TEMPLATE.sub(lambda found: str(self._variable(node, found[1])), text)
        self.budget.text(len(filled), self.location(node))
        return filled

    def _variable(self, node: ast.AST, name: str) -> Any:
        first, *rest = name.split(".")
        if first != "_base_":
            if first not in self._variables():
                raise self.refused(node, f"there is no variable {shown(first)}.")
            return self._variables()[first]
        value: Any = self.names.get("_base_")
        for part in rest:
            if isinstance(value, Node) and part in value:
                value = value[part]
            elif is_list(value) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                raise self.refused(node, f"the base has no {shown(name.removeprefix('_base_.'))}.")
        self.budget.visit(value, self.location(node))
        return value


_COPIES: Final = (TypeName("copy.deepcopy"), TypeName("copy.copy"))
_KINDS: Final = {
    "FunctionDef": "defining a function",
    "AsyncFunctionDef": "defining a function",
    "ClassDef": "defining a class",
    "Lambda": "a lambda",
    "While": "a while loop",
    "With": "a `with` block other than `with read_base()`",
    "Try": "a try block",
    "Raise": "raising",
    "Global": "`global`",
    "Assert": "an assertion",
    "Await": "`await`",
    "NamedExpr": "`:=`",
    "Set": "a set",
    "SetComp": "a set",
    "Yield": "`yield`",
    "YieldFrom": "`yield`",
}
