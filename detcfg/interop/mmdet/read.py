"""Read an MMDetection config with its bases, without running it.

    source = read_config("configs/double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py")
    source.data["model"]["type"]   # "FasterRCNN"

Follows mmengine/config/config.py in what a config means: `_base_`, `_delete_`, `{{ variables }}`, and the
pure Python style (`with read_base(): from .x import *`, classes by import).
"""

from __future__ import annotations

import ast
import json
import re
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeGuard, cast

from attrs import frozen

from detcfg.interop.mmdet.budget import Budget
from detcfg.interop.mmdet.data import Location, Node, ReadError, TypeName, cloned, is_list, shown
from detcfg.interop.mmdet.evaluate import Evaluator
from detcfg.interop.mmdet.merge import merged, without_marks
from detcfg.interop.mmdet.trust import execute

MAX_BYTES: Final = 2**20
"""Of one file; a class list of thirteen thousand names takes a third of it."""
MAX_TOKENS: Final = 100_000
"""Words and marks of one file; Python's parser takes 3 µs for each at worst."""
MAX_BRACES: Final = 5_000
"""Of a file with an f-string, which older parsers read in a time that grows with the square of its fields."""
MAX_NAME: Final = 500
"""Characters of the path in a `_base_`."""
MAX_FILES: Final = 60
"""A config, its bases and their bases; MMDetection's have eight at most."""
_TOKEN: Final = re.compile(r"\w+|[^\w\s]|\n")
_F_STRING: Final = re.compile(r"\b[rR]?[fF][rR]?['\"]")
_LONG_NAME: Final = re.compile(r"\b(?:\w++[\s\\]*+\.[\s\\]*+){100}")
"""`a.a.a.…`, which after `import` costs the parser the square of its length in memory."""
TRUST_HINT: Final = "If you trust the file, --trust runs it as Python."
_ENVIRONMENT: Final = re.compile(
    r"\{\{['\"]?\s{0,9}\$(\w{1,99})\s{0,9}:\s{0,9}([^\s{}'\"]{0,999})\s{0,9}['\"]?\}\}"
)


@frozen
class Source:
    """A config with everything it inherits."""

    path: Path
    data: Node
    """Its variables, merged."""
    files: tuple[Path, ...]
    """The config itself and every base, in the order of reading."""


def read_config(path: str | Path, *, config_root: str | Path | None = None, trust: bool = False) -> Source:
    """Read a config and what it inherits.

    Args:
        path: A `.py` or `.json` file: a config, or the resolved one that a run leaves in its folder.
        config_root: MMDetection's folder `configs`, where `mmdet::faster_rcnn/…` names are found.
        trust: Run what is more than plain data as Python.

    Raises:
        ReadError: It is not a config, or does what plain data does not.
    """
    file = Path(path)
    return _Reader(file, None if config_root is None else Path(config_root), trust=trust).source()


class _Reader:
    def __init__(self, path: Path, config_root: Path | None, *, trust: bool) -> None:
        self.path = path.absolute()
        self.root = _root_of(self.path.resolve())
        self.config_root = config_root.resolve() if config_root else None
        self.trust = trust
        self.budget = Budget()
        self.files: list[Path] = []
        self.reading: list[Path] = []

    def source(self) -> Source:
        start = Location(self.path, 1)
        try:
            data, imported = self._read(self.path, start)
        except RecursionError:
            raise ReadError(f"{start}: values are nested too deep.") from None
        for name in [name for name in data if str(name).startswith("__") or name in imported]:
            data.drop(name)
        return Source(path=self.path, data=cast("Node", without_marks(data)), files=tuple(self.files))

    def _read(self, path: Path, asked: Location) -> tuple[Node, set[str]]:
        """The variables of a file, and the names of those that only stand for an import."""
        real = path.resolve()
        if real in self.reading:
            chain = " -> ".join(file.name for file in [*self.reading[self.reading.index(real) :], real])
            raise ReadError(f"{asked}: the bases go round in a circle: {chain}.")
        if len(self.files) >= MAX_FILES:
            raise ReadError(f"{asked}: more than {MAX_FILES} base files.")
        text = _text(path, asked)
        self.files.append(path)
        self.reading.append(real)
        try:
            if path.suffix == ".json":
                return self._json(path, text), set()
            return self._python(path, text)
        finally:
            self.reading.pop()

    def _json(self, path: Path, text: str) -> Node:
        location = Location(path, 1)
        try:
            data: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ReadError(f"{location}: not JSON: {error}") from None
        node = to_node(data, location)
        if not isinstance(node, Node):
            raise ReadError(f"{location}: a config is an object, not {type(data).__name__}.")
        bases: Any = node.drop("_base_") if "_base_" in node else []
        return self._on_bases(node, self._bases(bases, location), location)

    def _python(self, path: Path, text: str) -> tuple[Node, set[str]]:
        tree = _parsed(path, text)
        base_line = next((statement for statement in tree.body if _names_base(statement)), None)
        location = Location(path, base_line.lineno if base_line else 1)
        if base_line is None:
            return self._evaluated(path, tree, Node(merging=True))
        bases = self._bases(Evaluator(path, self.budget).value(base_line.value), location)
        tree.body = [statement for statement in tree.body if not _names_base(statement)]
        child, imported = self._evaluated(path, tree, bases)
        return self._on_bases(child, bases, Location(path, 1)), imported

    def _on_bases(self, child: Node, bases: Node, location: Location) -> Node:
        # Copies, for one dict may stand under two names: `test_dataloader = val_dataloader`.
        self.budget.visit(child, location)
        self.budget.visit(bases, location)
        return merged(cast("Node", cloned(child)), cast("Node", cloned(bases)), location)

    def _bases(self, names: Any, location: Location) -> Node:
        """The variables of all bases together, in which `update` merges."""
        bases = Node(merging=True)
        for name in names if is_list(names) else [names]:
            if not isinstance(name, str):
                raise ReadError(f"{location}: _base_ names files, and {shown(name)} is none.")
            data, imported = self._read(self._located(name, location), location)
            twice = sorted(str(key) for key in data.keys() & bases.keys())
            if twice:
                raise ReadError(
                    f"{location}: two bases define {', '.join(twice)}; put one of them into the other's bases."
                )
            for key, value in data.items():
                if key not in imported:
                    bases.take(key, data, cloned(value, merging=True))
        return bases

    def _located(self, name: str, location: Location) -> Path:
        """The file that a `_base_` stands for; one outside the folders of configs is refused."""
        if len(name) > MAX_NAME or not name.isprintable():
            raise ReadError(f"{location}: _base_ names files, and {shown(name)} cannot be the name of one.")
        package, separator, rest = name.partition("::")
        if not separator:
            return self._inside(location.file.parent / name, location, name)
        if package != "mmdet":
            raise ReadError(
                f"{location}: {name!r:.200} is another project's config; only mmdet:: names are read."
            )
        if self.config_root is None:
            raise ReadError(
                f"{location}: {name!r:.200} needs MMDetection's folder of configs: --config-root mmdetection/configs"
            )
        return self._inside(
            self.config_root / (rest if rest.endswith(".py") else f"{rest}.py"), location, name
        )

    def _inside(self, path: Path, location: Location, name: str) -> Path:
        real = path.resolve()
        roots = [root for root in (self.root, self.config_root) if root is not None]
        if not any(real.is_relative_to(root) for root in roots):
            raise ReadError(
                f"{location}: the base {name!r:.200} lies outside {' and '.join(map(str, roots))}. "
                "Copy it in, or pass the folder that holds both: --config-root FOLDER"
            )
        return path

    # The pure Python style

    def _evaluated(self, path: Path, tree: ast.Module, bases: Node) -> tuple[Node, set[str]]:
        """The variables that the statements of a file set."""
        run = Evaluator(path, self.budget, {"_base_": bases})
        statements: list[ast.stmt] = []
        for statement in tree.body:
            if isinstance(statement, ast.With) and _is_read_base(statement):
                for inner in statement.body:
                    self._import_base(run, inner)
            else:
                statements.append(statement)
        try:
            run.run(statements)
        except ReadError as error:
            if not self.trust:
                raise _hinted(error) from None
            names = execute(path, tree.body, dict(run.names), self.budget)
            return Node(names), set()
        data = Node()
        for name, value in run.names.items():
            if name != "_base_":
                data.put(name, value, run.locations.get(name))
        self.budget.visit(data, Location(path, 1))
        return data, run.imported

    def _import_base(self, run: Evaluator, statement: ast.stmt) -> None:
        location = Location(run.path, statement.lineno)
        if not isinstance(statement, ast.ImportFrom) or not statement.module:
            raise ReadError(f"{location}: inside `with read_base():` stands nothing but `from … import …`.")
        path = self._module(statement, location)
        data, imported = self._read(path, location)
        self.budget.visit(data, location)
        data = cast("Node", cloned(data, merging=True))
        for alias in statement.names:
            if alias.name == "*":
                for key, value in data.items():
                    run.names[str(key)] = value
                    run.locations[str(key)] = data.locations.get(key, location)
                run.imported |= imported
            elif alias.name in data:
                run.names[alias.asname or alias.name] = data[alias.name]
                run.locations[alias.asname or alias.name] = data.locations.get(alias.name, location)
            else:
                raise ReadError(f"{location}: {path.name} has no {shown(alias.name)}.")

    def _module(self, statement: ast.ImportFrom, location: Location) -> Path:
        """The file of `from .a.b import …` or `from mmdet.configs.a.b import …`."""
        parts = (statement.module or "").split(".")
        if statement.level:
            folder = location.file.parent
            for _ in range(statement.level - 1):
                folder = folder.parent
            return self._inside(folder.joinpath(*parts).with_suffix(".py"), location, ast.unparse(statement))
        if parts[:2] != ["mmdet", "configs"]:
            raise ReadError(f"{location}: only mmdet.configs is known as a package of base configs.")
        return self._located(f"mmdet::{'/'.join(parts[2:])}", location)


def to_node(value: object, location: Location | None = None) -> Any:
    """Plain dicts of another reader as nodes whose keys are all at `location`."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Mapping):
        made = Node()
        for key, item in cast("Mapping[Any, object]", value).items():
            made.put(key, to_node(item, location), location)
        return made
    if isinstance(value, list):
        return [to_node(item, location) for item in cast("list[object]", value)]
    if isinstance(value, tuple):
        return tuple(to_node(item, location) for item in cast("tuple[object, ...]", value))
    return value


def _root_of(path: Path) -> Path:
    """The folder whose files a config may inherit: the nearest one named `configs`, or the parent of its folder."""
    for folder in path.parents:
        if folder.name == "configs":
            return folder
    return path.parent.parent if path.parent != path.parent.parent else path.parent


def _text(path: Path, asked: Location) -> str:
    if path.suffix in (".yml", ".yaml"):
        raise ReadError(f"{asked}: {path} is YAML, which is not read. Write it as .json or .py.")
    if path.suffix not in (".py", ".json"):
        raise ReadError(f"{asked}: {path} is no config; they end in .py or .json.")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ReadError(f"{asked}: {path} is not a file.")
        if status.st_size > MAX_BYTES:
            raise ReadError(f"{asked}: {path} has {status.st_size:,} bytes; {MAX_BYTES:,} are read.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ReadError(f"{asked}: cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ReadError(f"{asked}: {path} is not text in UTF-8.") from None
    # A variable of the environment may be a secret: its default is taken.
    return _ENVIRONMENT.sub(lambda found: found[2], text)


def _parsed(path: Path, text: str) -> ast.Module:
    if len(_TOKEN.findall(text)) > MAX_TOKENS:
        raise ReadError(
            f"{path}:1: this file has more than {MAX_TOKENS:,} words and marks, which is not read."
        )
    if text.count("{") > MAX_BRACES and _F_STRING.search(text):
        raise ReadError(f"{path}:1: this file has f-strings and more than {MAX_BRACES:,} braces.")
    if long := _LONG_NAME.search(text):
        line = text.count("\n", 0, long.start()) + 1
        raise ReadError(f"{path}:{line}: a name of more than 100 parts.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, filename=str(path))
    except SyntaxError as error:
        raise ReadError(f"{path}:{error.lineno or 1}: {error.msg}.") from None
    except (RecursionError, MemoryError):
        raise ReadError(f"{path}:1: expressions are nested too deep.") from None
    except ValueError as error:
        raise ReadError(f"{path}:1: {error}.") from None


def _names_base(statement: ast.stmt) -> TypeGuard[ast.Assign]:
    match statement:
        case ast.Assign(targets=[ast.Name(id="_base_")]):
            return True
        case _:
            return False


def _is_read_base(statement: ast.With) -> bool:
    match statement.items:
        case [
            ast.withitem(
                context_expr=ast.Call(func=ast.Name(id="read_base"), args=[], keywords=[]), optional_vars=None
            )
        ]:
            return True
        case _:
            return False


def _hinted(error: ReadError) -> ReadError:
    return error if TRUST_HINT in str(error) else ReadError(f"{error} {TRUST_HINT}")


def is_class(value: object) -> bool:
    """Whether a value is a class that the pure Python style named."""
    return isinstance(value, TypeName)
