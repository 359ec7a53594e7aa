"""The source of a stub: fields as the config had them, and the methods that are to be written."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from functools import cache
from typing import Any

import attrs

from detcfg.config.base import Config
from detcfg.config.types import field_types
from detcfg.errors import NotWrittenError
from detcfg.interop.mmdet.layout import INDENT, Layout
from detcfg.interop.mmdet.stubs import methods_to_write


def stub_source(cls: type[Config], layout: Layout) -> str:
    """The class statement of a stub."""
    imports = layout.imports
    imports.use("attrs", "frozen")
    base = cls.__mro__[1]
    inherited = attrs.fields_dict(base)
    lines = ["@frozen(kw_only=True)", f"class {cls.__name__}({imports.cls(base)}):"]
    summary, _, where = (inspect.getdoc(cls) or "").partition("\n\n")
    lines += [f'{" " * INDENT}"""{summary}', "", f"{' ' * INDENT}{where}", f'{" " * INDENT}"""', ""]
    types = field_types(cls)
    fields = [field for field in attrs.fields(cls) if field.name not in inherited]
    for field in fields:
        start = f"{' ' * INDENT}{field.name}: {layout.annotation(types[field.name])} = "
        lines.append(start + layout.value(field.default, len(start), INDENT))
    if fields:
        lines.append("")
    for name in methods_to_write(base):
        lines += [*_method(cls, base, name, layout), ""]
    return "\n".join(lines).rstrip()


def _method(cls: type[Config], base: type[Config], name: str, layout: Layout) -> list[str]:
    """The definition of an abstract method, with its base's signature."""
    owner = next(one for one in base.__mro__ if name in vars(one))
    found: Any = vars(owner)[name]
    is_property = isinstance(found, property)
    function: Any = found.fget if is_property else found
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    annotations = [argument.annotation for argument in ast.walk(tree.args) if isinstance(argument, ast.arg)]
    for node in (n for a in [*annotations, tree.returns] if a is not None for n in ast.walk(a)):
        if isinstance(node, ast.Name | ast.Attribute):
            _import(node, owner, layout)
    signature = ast.unparse(ast.FunctionDef(name, tree.args, [ast.Pass()], [], tree.returns, lineno=1))
    head = re.sub(r"(?<=[\w\]\"])=(?=[\w(\"'])", " = ", signature.removesuffix("pass").rstrip())
    known: object = getattr(cls, "known_properties", {}).get(name)
    if known is not None:
        body = f"return {known!r}"
    else:
        layout.imports.use(NotWrittenError.__module__, NotWrittenError.__name__)
        body = f'raise {NotWrittenError.__name__}(self, "{name}")'
    made = [*(["@property"] if is_property else []), *_wrapped(head), f"{' ' * INDENT}{body}"]
    return [f"{' ' * INDENT}{line}" for line in made]


def _wrapped(head: str) -> list[str]:
    """A signature over several lines, where it is long."""
    if INDENT + len(head) <= 110:
        return [head]
    opening, _, rest = head.partition("(")
    parameters, _, ending = rest.rpartition(")")
    if 2 * INDENT + len(parameters) <= 110:
        return [f"{opening}(", f"{' ' * INDENT}{parameters}", f"){ending}"]
    tree = ast.parse(f"{head} pass").body[0]
    assert isinstance(tree, ast.FunctionDef)
    items = [part.strip() for part in _split(parameters)]
    return [f"{opening}(", *(f"{' ' * INDENT}{item}," for item in items), f"){ending}"]


def _split(text: str) -> list[str]:
    """Parameters at their commas, those inside brackets left alone."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _import(node: ast.Name | ast.Attribute, owner: type, layout: Layout) -> None:
    """Import a name of a signature from where its module has it."""
    if not isinstance(node, ast.Name):
        return
    where = _imports(owner.__module__)
    if node.id in where:
        module, name = where[node.id]
        layout.imports.use(module, name)
    elif node.id in vars(sys.modules[owner.__module__]):
        layout.imports.use(owner.__module__, node.id)


@cache
def _imports(module: str) -> dict[str, tuple[str, str]]:
    """Each name that a module imports, with the module that it is from."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
