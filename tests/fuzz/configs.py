"""Spoilt configs of MMDetection: whole ones of every family, and small programs of the language they are in."""

from __future__ import annotations

import ast
import builtins
import json
from pathlib import Path
from random import Random
from typing import Final

from detcfg.experiment import load_experiment
from detcfg.interop.mmdet.experiment import import_config
from detcfg.interop.mmdet.functions import FUNCTIONS, METHODS
from detcfg.interop.mmdet.read import Source, read_config
from detcfg.interop.mmdet.write import write_experiment
from tests.fuzz.mutate import HOSTILE, TOKENS, spoilt_bytes, spoilt_text, spoilt_tree
from tests.support.attacks import ATTACKS
from tests.support.small_configs import FAMILIES, RUN

IMPORTS: Final = ("__future__", "attrs", "detcfg", "experiments", "torch", "typing", "tests")
"""What a written experiment may import."""

METHOD_NAMES: Final = tuple({name for methods in METHODS.values() for name in methods})
OPERATORS: Final = (
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "<<",
    ">>",
    "|",
    "&",
    "==",
    "<",
    "in",
    "is",
    "and",
    "or",
)
CHANGES: Final = tuple(change for _, change in FAMILIES.values())


class Importer:
    """Spoils a config or one of its bases, imports it and writes the experiment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "configs"
        self.folder.mkdir(parents=True)
        self.parents = {name: load_experiment(name) for name in ("faster_rcnn", "retinanet", "double_head")}
        self.trees = [self._read(family).data for family in FAMILIES]

    def __call__(self, draw: Random) -> None:
        path = self.folder / "config.py"
        match draw.randrange(8):
            case 0:
                path.write_text("".join(f"{_statement(draw)}\n" for _ in range(draw.randint(1, 6))))
            case 1:
                texts = [attack for attack in ATTACKS.values() if isinstance(attack, str)]
                text = draw.choice(texts)
                path.write_bytes(_encoded(spoilt_text(draw, text, (*texts, *TOKENS))))
            case 2 | 3:
                path = self.folder / "config.json"
                path.write_text(json.dumps(spoilt_tree(draw, draw.choice(self.trees))))
            case 4:
                self._write(draw, *self._family(draw))
                path.write_bytes(spoilt_bytes(draw, path.read_bytes()))
            case _:
                base, change = self._family(draw)
                if draw.random() < 0.5:
                    change = spoilt_text(draw, change, CHANGES)
                else:
                    base = spoilt_text(draw, base, (*CHANGES, RUN))
                self._write(draw, base, change)
        imported = import_config(read_config(path, config_root=self.folder))
        check_text(write_experiment(imported, self.parents if draw.random() < 0.05 else {}))

    def _family(self, draw: Random) -> tuple[str, str]:
        return FAMILIES[draw.choice(list(FAMILIES))]

    def _write(self, draw: Random, base: str, change: str) -> None:
        run = spoilt_text(draw, RUN, CHANGES) if draw.random() < 0.3 else RUN
        (self.folder / "base.py").write_bytes(_encoded(base))
        (self.folder / "run.py").write_bytes(_encoded(run))
        text = f"_base_ = ['base.py', 'run.py']\nmodel = {change}\n"
        (self.folder / "config.py").write_bytes(_encoded(text))

    def _read(self, family: str) -> Source:
        self._write(Random(0), *FAMILIES[family])  # noqa: S311
        return read_config(self.folder / "config.py")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def check_text(text: str) -> None:
    """The written experiment is Python, and imports nothing that its source chose."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.partition(".")[0] in IMPORTS, f"the experiment imports {name}"
    nodes = list(ast.walk(tree))
    known = {node.name for node in nodes if isinstance(node, ast.alias | ast.ClassDef)} | set(dir(builtins))
    known |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    unknown = {node.id for node in nodes if isinstance(node, ast.Name)} - known
    assert not unknown, f"the experiment names {unknown}"


def _statement(draw: Random) -> str:
    name, value = draw.choice("abc"), _expression(draw, 3)
    return draw.choice(
        (
            f"{name} = {value}",
            f"{name} += {value}",
            f"for {name} in {value}: {draw.choice('abc')} = {_expression(draw, 2)}",
            f"{name}[{_expression(draw, 1)}] = {value}",
            f"if {value}: {name} = {_expression(draw, 1)}",
            f"del {name}[{_expression(draw, 1)}]",
            f"a, b = {value}",
            f"model = dict(type={_expression(draw, 1)}, backbone={value})",
        )
    )


def _expression(draw: Random, depth: int) -> str:  # noqa: PLR0911 - one return a kind of expression
    if depth == 0:
        return draw.choice(("a", "b", "c", "dict(a=1)", "[1, 2]", "(1,)", repr(draw.choice(HOSTILE))))

    def inner() -> str:
        return _expression(draw, depth - 1)

    match draw.randrange(9):
        case 0:
            return f"{inner()} {draw.choice(OPERATORS)} {inner()}"
        case 1:
            arguments = ", ".join(inner() for _ in range(draw.choice((0, 1, 1, 2, 3))))
            return f"{draw.choice(['dict', *FUNCTIONS])}({arguments})"
        case 2:
            arguments = ", ".join(inner() for _ in range(draw.choice((0, 1, 1, 2))))
            return f"({inner()}).{draw.choice(METHOD_NAMES)}({arguments})"
        case 3:
            return f"[{inner()} for a in {inner()}]"
        case 4:
            return f"({inner()})[{draw.choice((inner(), f'{inner()}:{inner()}', '::0', '::-1'))}]"
        case 5:
            return f"f'{{{inner()}!r:>{draw.choice(('3', '10', '', '{a}'))}}}'".replace("\n", "")
        case 6:
            return f"{{{inner()}: {inner()}, **dict(b={inner()})}}"
        case 7:
            return f"({inner()} if {inner()} else {draw.choice(('-', 'not ', '~', '+'))}{inner()})"
        case _:
            return f"[*{inner()}, {inner()}]"
