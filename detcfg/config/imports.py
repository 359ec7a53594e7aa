"""The imports of a Python file by today's names; everything else stays as it is, to the byte."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Final, TypeAlias

from attrs import frozen

from detcfg.config.moved import Gone

Moved: TypeAlias = Callable[[str], str | Gone]
"""What `package.module`, or `package.module:Name`, is called today."""


@frozen(kw_only=True)
class Change:
    """Something in a statement or an expression that has moved."""

    line: int
    """The first line, counted from 1."""
    end_line: int
    old: str
    """`package.module` or `package.module:Name`."""
    new: str


@frozen(kw_only=True)
class Note:
    """Something that is left to a person."""

    line: int
    message: str


@frozen(kw_only=True)
class Rewritten:
    """A file with the imports of today."""

    text: str
    changes: tuple[Change, ...]
    notes: tuple[Note, ...]


def rewritten(text: str, moved: Moved) -> Rewritten:
    """Give imports today's names, and what is written as `module.Name` along with them.

    An import of names that went to several modules becomes several. Comments, aliases and the layout stay. Strings are
    left alone; those that name something that has moved are noted, as is what cannot be rewritten safely.

    Args:
        text: Python, with any ends of lines.
        moved: Says what has moved.

    Raises:
        SyntaxError: The text is not Python.
        ValueError: It is, but for characters that no source has.

    >>> moved = {"heads:Box": "heads.box:Box", "heads:Mask": "heads.mask:Mask"}
    >>> print(rewritten("from heads import Box, Mask as M  # both", lambda path: moved.get(path, path)).text)
    from heads.box import Box
    from heads.mask import Mask as M  # both
    """
    return _Rewriter(text, moved).result()


_MODULE: Final = re.compile(r"from(?:[ \t\f]|\\(?:\r\n|\r|\n))+([\w.]+)")
_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_COMMENT: Final = re.compile(r"#[^\r\n]*")
_BEHIND: Final = re.compile(r"[ \t\f]*(#[^\r\n]*)?(?=[\r\n]|\Z)")
_PRAGMA: Final = re.compile(r"#\s*(?:noqa|type:|pyright:|pylint:|isort:|ruff:|ty:|pyrefly:)")
"""A comment that speaks to a tool about its statement, and about each of those that the statement becomes."""
_PATH: Final = re.compile(r"(?:[\w.]+=)?([A-Za-z_]\w*(?:\.\w+)+(?::\w+)?)")
"""A string that may name a module or a class, as that of an override does."""


@frozen
class _Chain:
    """`a.b.c`, as far as it consists of names and dots."""

    names: tuple[str, ...]
    nodes: tuple[ast.expr, ...]
    """The expression up to each of the names."""


@frozen(kw_only=True)
class _Use:
    """The beginning of a chain: something in a module, or (its name is empty) the module."""

    node: ast.expr
    text: str
    module: str
    name: str
    new_module: str
    new_name: str


@frozen
class _Item:
    """A name that `from … import …` takes, and what it is called there today."""

    alias: ast.alias
    name: str

    @property
    def text(self) -> str:
        """`new`, or `new as old`: what the file calls it stays."""
        bound = self.alias.asname or self.alias.name
        return self.name if bound == self.name and not self.alias.asname else f"{self.name} as {bound}"


class _Rewriter:
    def __init__(self, text: str, moved: Moved) -> None:
        self.text, self.moved = text, moved
        self.starts = [0, *(end.end() for end in _NEWLINE.finditer(text))]
        self.edits: dict[tuple[int, int], str] = {}
        self.changes: set[Change] = set()
        self.notes: set[Note] = set()
        self.nodes = list(ast.walk(ast.parse(text)))
        self.chains: dict[str, list[_Chain]] = defaultdict(list)
        for chain in _chains(self.nodes):
            self.chains[chain.names[0]].append(chain)
        imports = [node for node in self.nodes if isinstance(node, ast.Import)]
        self.imported = {alias.name for node in imports for alias in node.names if not alias.asname}
        self.ambiguous = _ambiguous(self.nodes)

    def result(self) -> Rewritten:
        for node in self.nodes:
            if isinstance(node, ast.Import):
                self.rewrite_import(node)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                self.rewrite_from(node, node.module)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                self.note_string(node, node.value)
        pieces: list[str] = []
        at = 0
        for (start, end), new in sorted(self.edits.items()):
            pieces += self.text[at:start], new
            at = end
        return Rewritten(
            text="".join([*pieces, self.text[at:]]),
            changes=tuple(sorted(self.changes, key=lambda change: (change.line, change.old, change.new))),
            notes=tuple(sorted(self.notes, key=lambda note: (note.line, note.message))),
        )

    # What is where today

    def today(self, path: str, node: ast.stmt | ast.expr) -> str:
        """What a path is today; what is gone is noted, and stays."""
        found = self.moved(path)
        if isinstance(found, Gone):
            self.note(node, f"{path} is gone. {found.instead}")
            return path
        return found

    def use(self, module: str, chain: _Chain) -> _Use:
        """What a chain, whose first name stands for a module, leads to."""
        names = [*module.split("."), *chain.names[1:]]
        depth = module.count(".") + 1
        for count in reversed(range(depth, len(names) + 1)):
            inner, name = ".".join(names[:count]), names[count] if count < len(names) else ""
            node = chain.nodes[count - depth + bool(name)]
            old = _path(inner, name)
            new = self.today(old, node)
            if new != old or count == depth:
                text = ".".join(chain.names[: count - depth + 1 + bool(name)])
                new_module, _, new_name = new.partition(":")
                return _Use(
                    node=node, text=text, module=inner, name=name, new_module=new_module, new_name=new_name
                )
        raise AssertionError(module)

    def dotted_targets(self, module: str, statement: ast.stmt) -> list[str]:
        """What `import a.b.c` has to import for the uses of `a.b.c`, which are rewritten."""
        top = module.partition(".")[0]
        targets: dict[str, None] = {}
        stays = False
        for chain in self.chains[top]:
            use = self.use(top, chain)
            is_replaced = self.replaced(use, _dotted(use.new_module, use.new_name))
            if use.module == top:
                stays = True
                if ".".join(chain.names).startswith(f"{module}."):
                    targets[module] = None
            elif is_replaced and (use.module == module or self.is_only_in(module, use)):
                targets[use.new_module] = None
        found = list(targets) or [self.today(module, statement)]
        others = (self.today(name, statement) for name in self.imported if name.partition(".")[0] == top)
        is_bound = any(name.partition(".")[0] == top for name in (*found, *others))
        return found if is_bound or not stays else [top, *found]

    def is_only_in(self, package: str, use: _Use) -> bool:
        """Whether an import of a package is all that there is of a module in it."""
        return use.module.startswith(f"{package}.") and use.module not in self.imported

    def bound_targets(self, name: str, module: str, statement: ast.stmt) -> list[str]:
        """The module to bind to a name, for its uses; then further ones, for those that are rewritten."""
        today = self.today(module, statement)
        uses = [self.use(module, chain) for chain in self.chains[name]]
        homes = list(dict.fromkeys(use.new_module for use in uses if use.module == module))
        target = homes[0] if len(homes) == 1 and name not in self.ambiguous else today
        further: dict[str, None] = {}
        for use in uses:
            if use.module == module and use.new_module == target:
                self.replaced(use, _dotted(name, use.new_name))
            elif use.module != module and use.new_module.startswith(f"{module}."):
                self.replaced(use, _dotted(name + use.new_module.removeprefix(module), use.new_name))
            elif self.replaced(use, _dotted(use.new_module, use.new_name)):
                further[use.new_module] = None
        return [target, *further]

    def replaced(self, use: _Use, written: str) -> bool:
        """Write a use otherwise, if it is sure what its names mean."""
        if use.text == written:
            return True
        start, end = self.span(use.node)
        is_sure = self.text[start:end] == use.text and not (
            {name.partition(".")[0] for name in (use.text, written)} & self.ambiguous
        )
        if is_sure:
            self.edits[start, end] = written
            old, new = _path(use.module, use.name), _path(use.new_module, use.new_name)
            self.change(use.node, old, new)
        else:
            self.note(
                use.node, f"{use.text} is left to you, for it may mean something else: it is {written} today."
            )
        return is_sure

    # Statements

    def rewrite_import(self, statement: ast.Import) -> None:
        for alias in statement.names:
            if alias.asname:
                targets = self.bound_targets(alias.asname, alias.name, statement)
            else:
                targets = self.dotted_targets(alias.name, statement)
            if targets != [alias.name]:
                self.change(statement, alias.name, ", ".join(targets))
                first = f"{targets[0]} as {alias.asname}" if alias.asname else targets[0]
                self.edits[self.span(alias)] = ", ".join([first, *targets[1:]])

    def rewrite_from(self, statement: ast.ImportFrom, module: str) -> None:
        groups: dict[str, list[_Item]] = {}
        further: dict[str, None] = {}
        for alias in statement.names:
            home, name, others = self.item_targets(statement, module, alias)
            groups.setdefault(home, []).append(_Item(alias, name))
            further |= dict.fromkeys(others)
        items = [item for group in groups.values() for item in group]
        if not further and groups.keys() == {module} and all(item.name == item.alias.name for item in items):
            return
        start, end = self.span(statement)
        separator = self.separator(start, end)
        written = _MODULE.match(self.text, start)
        is_one_of_several = separator == "; " and _NEWLINE.search(self.text, start, end)
        if written is None or written[1] != module or is_one_of_several:
            homes = ", ".join(home for home in (*groups, *further) if home != module)
            self.note(
                statement,
                f"This import is left to you, for the way it is written: its names are in {homes} today.",
            )
            return
        before = [f"import {name}" for name in further]
        if len(groups) > 1:
            self.edits[start, end] = separator.join([*before, *self.split(statement, groups, separator)])
            return
        if before:
            self.edits[start, start] = separator.join([*before, ""])
        self.edits[written.span(1)] = next(iter(groups))
        for item in items:
            if item.name != item.alias.name:
                self.edits[self.span(item.alias)] = item.text

    def item_targets(
        self, statement: ast.ImportFrom, module: str, alias: ast.alias
    ) -> tuple[str, str, list[str]]:
        """Of a name of `from … import …`: the module it is in today, its name there, and what to import besides."""
        path = f"{module}.{alias.name}"
        target, *further = self.bound_targets(alias.asname or alias.name, path, statement)
        if target == path:
            path = f"{module}:{alias.name}"
            target = self.today(path, statement)
        if target != path:
            self.change(statement, path, target)
        home, _, name = target.replace(":", ".").rpartition(".")
        return home, name, further

    def split(self, statement: ast.ImportFrom, groups: dict[str, list[_Item]], separator: str) -> list[str]:
        """The statements that import each group from where it is today, in the layout of the one that they replace."""
        start, end = self.span(statement)
        spans = [self.span(alias) for alias in statement.names]
        opening = self.text.find("(", start, spans[0][0])
        is_long = opening >= 0 and _NEWLINE.search(self.text, opening, end) is not None
        behind = _BEHIND.match(self.text, end)
        pragma = f"  {behind[1]}" if behind and behind[1] and _PRAGMA.match(behind[1]) else ""
        edges = [opening + 1, *(edge for span in spans for edge in span), end - 1]
        gaps = [edges[index : index + 2] if is_long else (0, 0) for index in range(0, len(edges), 2)]
        comments = [self.comments(*gap) for gap in gaps]
        around = {
            alias: (above, beside)
            for alias, ((_, above), (beside, _)) in zip(statement.names, pairwise(comments), strict=True)
        }
        statements: list[str] = []
        for home, group in groups.items():
            is_first, is_last = home == next(iter(groups)), home == next(reversed(groups))
            opened = [comment for comment in comments[0][0] if is_first or _PRAGMA.match(comment)]
            lines: list[str] = []
            for item in group:
                above, beside = around[item.alias]
                lines += [*above, "  ".join([f"{item.text},", *beside])]
            lines += comments[-1][1] if is_last else ()
            if is_long and (len(lines) > 1 or opened or "#" in lines[0]):
                text = "  ".join([f"from {home} import (", *opened])
                text += "".join(f"{separator}    {line}" for line in lines) + f"{separator})"
            else:
                text = f"from {home} import {', '.join(item.text for item in group)}"
            statements.append(text if is_last else text + pragma)
        return statements

    def note_string(self, node: ast.Constant, value: str) -> None:
        found = _PATH.fullmatch(value)
        today = self.moved(found[1]) if found else None
        if found and today != found[1]:
            what = f"gone. {today.instead}" if isinstance(today, Gone) else f"{today} today."
            self.note(node, f"{value!r} is left as it is, for it is a string: {found[1]} is {what}")

    # The text

    def change(self, node: ast.stmt | ast.expr, old: str, new: str) -> None:
        self.changes.add(Change(line=node.lineno, end_line=node.end_lineno or node.lineno, old=old, new=new))

    def note(self, node: ast.stmt | ast.expr, message: str) -> None:
        self.notes.add(Note(line=node.lineno, message=message))

    def span(self, node: ast.stmt | ast.expr | ast.alias) -> tuple[int, int]:
        """Where a node stands in the text; Python counts columns in bytes."""
        return (
            self.offset(node.lineno, node.col_offset),
            self.offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset),
        )

    def offset(self, line: int, column: int) -> int:
        start = self.starts[line - 1]
        end = self.starts[line] if line < len(self.starts) else len(self.text)
        return start + len(self.text[start:end].encode()[:column].decode())

    def separator(self, start: int, end: int) -> str:
        """What stands between a statement and the next in its place: an end of line, or a semicolon."""
        line_start = max(at for at in self.starts if at <= start)
        indent = self.text[line_start:start]
        if indent.strip() or not _BEHIND.match(self.text, end):
            return "; "
        newline = _NEWLINE.search(self.text, end) or _NEWLINE.search(self.text)
        return (newline[0] if newline else "\n") + indent

    def comments(self, start: int, end: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The comments between two names: on the line of the first, and on lines of their own."""
        newline = _NEWLINE.search(self.text, start, end)
        middle = newline.start() if newline else end
        return (
            tuple(_COMMENT.findall(self.text[start:middle])),
            tuple(_COMMENT.findall(self.text[middle:end])),
        )


def _dotted(module: str, name: str) -> str:
    return f"{module}.{name}" if name else module


def _path(module: str, name: str) -> str:
    return f"{module}:{name}" if name else module


def _chains(nodes: Iterable[ast.AST]) -> Iterator[_Chain]:
    """Every name that is read, with the attributes that are taken of it; outer nodes are given first."""
    inside: set[int] = set()
    for node in nodes:
        if id(node) in inside or not isinstance(node, ast.Attribute | ast.Name):
            continue
        names: list[str] = []
        chain: list[ast.expr] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            chain.append(inner)
            inner = inner.value
            inside.add(id(inner))
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            yield _Chain((inner.id, *reversed(names)), (inner, *reversed(chain)))


def _ambiguous(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that are bound to more than one thing."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in nodes:
        for name, what in _bound(node):
            found[name].add(what)
    return {name for name, things in found.items() if len(things) > 1}


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that a node binds, and to what, where it is an import."""
    match node:
        case ast.Import(names=aliases):
            for alias in aliases:
                top = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)
        case ast.ImportFrom(names=aliases):
            for alias in aliases:
                yield alias.asname or alias.name, f"{node.level * '.'}{node.module}.{alias.name}"
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name, ""
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name, ""
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name, ""
        case ast.MatchMapping(rest=str(name)):
            yield name, ""
        case _:
            pass
