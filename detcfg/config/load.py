"""Find an experiment by path, by name or in a saved run; and bring a file's imports up to date."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tokenize
import traceback
from collections.abc import Collection, Iterator
from functools import partial
from hashlib import sha1
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

import attrs
from attrs import frozen

from detcfg.config.base import Config, ConfigError, did_you_mean, nearest
from detcfg.config.imports import Change, Note, rewritten
from detcfg.config.moved import MOVES, SHIPPED, SHIPPED_FOLDER, Gone, is_users
from detcfg.config.serialize import from_data

C = TypeVar("C", bound=Config)

SAVED_NAME: Final = "experiment.json"
"""The file beside every checkpoint that holds the experiment."""

MAX_BYTES: Final = 16 * 2**20
"""A saved experiment is some 20 kB; anything above this is not one."""


def load(source: str | Path, base: type[C], allow: Collection[str] = ()) -> C:
    """The `Experiment` of a file, in the given state.

    Args:
        source: `experiments/double_head.py` (a path), `double_head` (a name: the file of that name
            in a folder `experiments` here or above, or among those that come with detcfg), or a saved
            run (its folder, or its `experiment.json`).
        base: What an `Experiment` derives from.
        allow: For a saved run: modules besides detcfg's whose classes may be imported.

    Raises:
        ConfigError: There is no such experiment, or it is wrong; the message says where.
    """
    path = Path(source)
    if path.suffix == ".json" or path.is_dir():
        return _load_saved(path / SAVED_NAME if path.is_dir() else path, allow, base)
    module = _import_file(path) if path.suffix == ".py" else _import_name(str(source))
    found: object = getattr(module, "Experiment", None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(
            f"{module.__file__} defines no class `Experiment` that derives from {base.__name__}. Write\n\n"
            "@frozen(kw_only=True)\nclass Experiment(parent.Experiment):\n    model: Model = Model()"
        )
    try:
        return found()
    except (TypeError, ValueError) as error:
        raise _located(error, Path(module.__file__ or "")) from None


@frozen(kw_only=True)
class Upgrade:
    """A Python file, and what it is with the imports of today."""

    path: Path
    before: str
    after: str
    encoding: str
    changes: tuple[Change, ...]
    notes: tuple[Note, ...]

    def write(self) -> None:
        """Put the file with the imports of today in the place of the other.

        Raises:
            ConfigError: The other has changed since it was read, or cannot be written.
        """
        path = self.path.resolve()
        new = path.with_name(f".{path.name}.upgraded")
        try:
            if path.read_bytes() != self.before.encode(self.encoding):
                raise ConfigError(f"{self.path} has changed since it was read. Begin again.")
            new.write_bytes(self.after.encode(self.encoding))
            new.chmod(path.stat().st_mode)
            new.replace(path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise ConfigError(f"{self.path} cannot be written: {error.strerror or error}.") from error


def upgrade(path: Path) -> Upgrade:
    """Rewrite the imports of a Python file that name what has moved in detcfg. Nothing is written yet.

    Raises:
        ConfigError: It is no Python file, or cannot be read.
    """
    if path.suffix == ".json":
        raise ConfigError(f"{path}: a saved experiment is loaded as it is, whichever version saved it.")
    try:
        data = path.read_bytes()
        encoding = tokenize.detect_encoding(BytesIO(data).readline)[0]
        before = data.decode(encoding)
        if before.encode(encoding) != data:
            raise ConfigError(f"{path} is not quite {encoding}, so it could not be written as it was.")
        found = rewritten(before, partial(_todays, folders=(Path.cwd(), *path.resolve().parents)))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno or 1}: {error.msg}. The file is left as it is.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no Python file: {error}.") from None
    return Upgrade(
        path=path,
        before=before,
        after=found.text,
        encoding=encoding,
        changes=found.changes,
        notes=found.notes,
    )


def _todays(name: str, folders: Collection[Path]) -> str | Gone:
    """What a module, or something in it, is called today; a person's own keeps its name."""
    today = MOVES.name(name)
    return name if today != name and is_users(name.partition(":")[0], folders) else today


def experiment_names() -> list[str]:
    """The names that `load` finds from here."""
    return sorted(
        {path.stem for folder in _folders() for path in folder.glob("*.py") if path.stem != "__init__"}
    )


def _load_saved(path: Path, allow: Collection[str], annotation: type[C]) -> C:
    if not path.is_file():
        raise ConfigError(f"There is no saved experiment at {path}.")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} has {path.stat().st_size:,} bytes, which no saved experiment has.")
    try:
        data: object = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    try:
        return from_data(data, annotation, allow)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _folders() -> Iterator[Path]:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "experiments").is_dir():
            yield folder / "experiments"
            break
    if SHIPPED_FOLDER.is_dir():
        yield SHIPPED_FOLDER


_NO_LINKS: Final = (
    f"{SHIPPED_FOLDER} is no folder, so the experiments that come with detcfg are missing: this copy of it was made "
    f"without symbolic links. Make the link (ln -sf ../experiments {shlex.quote(str(SHIPPED_FOLDER))}), clone anew with "
    "`git clone -c core.symlinks=true`, or install it without -e."
)


def _import_name(name: str) -> ModuleType:
    for folder in _folders():
        if (folder / f"{name}.py").is_file():
            return _import_file(folder / f"{name}.py")
    if not SHIPPED_FOLDER.is_dir():
        raise ConfigError(_NO_LINKS)
    where = "A name is the file's without .py, in a folder `experiments`; or give a path that ends in .py."
    raise ConfigError(f"There is no experiment {name!r}. {did_you_mean(name, experiment_names())} {where}")


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        near = nearest(path.stem, experiment_names())
        hint = "Correct the path." if near is None else f"Did you mean {near!r}?"
        raise ConfigError(f"There is no file {path}. {hint}")
    try:
        return _import_shipped(path) or _import_in_package(path) or _import_alone(path)
    except (ConfigError, KeyboardInterrupt):
        raise
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}"
        raise ConfigError(f"{place}: {error.msg}\n    {(error.text or '').strip()}") from None
    except Exception as error:  # noqa: BLE001 - whatever a person's file does wrong is shown at its line
        raise _located(error, path) from None


def _import_shipped(path: Path) -> ModuleType | None:
    """Import an experiment that comes with detcfg by the name that users import it by."""
    if path.parent != SHIPPED_FOLDER.resolve():
        return None
    return import_module(f"{SHIPPED}.{path.stem}")


def _import_in_package(path: Path) -> ModuleType | None:
    """Import `experiments/x.py` as `experiments.x` where that is what Python itself would find."""
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    if len(names) == 1:
        return None
    name = ".".join(names)
    if str(folder) not in sys.path and names[0] not in sys.modules:
        spec = find_spec(names[0])
        if spec is None or spec.origin is None:  # a folder without __init__.py, which any package goes before
            sys.path.append(str(folder))
    return import_module(name) if _is_at(name, path) else None


def _is_at(name: str, path: Path) -> bool:
    """Whether `import name` is an import of this file."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module that was made by hand
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path


def _import_alone(path: Path) -> ModuleType:
    """Import a file that is in no package; it and files beside it can be imported as they are named.

    Where its name is taken, as by another `mine.py`, it gets one of its own.
    """
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    if _is_at(path.stem, path):
        return import_module(path.stem)
    name = f"{path.stem}_at_{sha1(str(path).encode(), usedforsecurity=False).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _located(error: Exception, path: Path) -> ConfigError:
    """An error of a person's file with the file, the line and the nearest valid name."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).resolve() == path.resolve()]
    outside = [f for f in frames if not _is_library(f.filename)]
    frame = next(reversed(outside or own), None)
    place = f"{frame.filename}:{frame.lineno}: " if frame else f"{path}: "
    line = f"\n    {frame.line}" if frame and frame.line else ""
    if frame and isinstance(error, ImportError | AttributeError) and (moved := _moved_at(frame, line)):
        return ConfigError(f"{place}{moved}")
    if isinstance(error, ImportError) and error.name == SHIPPED and not SHIPPED_FOLDER.is_dir():
        return ConfigError(f"{place}{_NO_LINKS}{line}")
    return ConfigError(f"{place}{_explained(error)}{line}")


def _moved_at(frame: traceback.FrameSummary, line: str) -> str:
    """What has moved of the names in a line of a file, and what to do; empty if nothing has."""
    try:
        found = upgrade(Path(frame.filename))
    except ConfigError:
        return ""
    number = frame.lineno or 0
    changes = [change for change in found.changes if change.line <= number <= change.end_line]
    notes = " ".join(note.message for note in found.notes if note.line == number)
    if not changes:
        return notes and f"{notes}{line}"
    moved = " ".join([*(f"{change.old} is {change.new} now." for change in changes), notes]).strip()
    file = Path(frame.filename)
    file = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    remedy = "This rewrites the file's imports, and shows what it changes before: detcfg upgrade"
    return f"{moved}{line}\n{remedy} {shlex.quote(str(file))}"


def _is_library(filename: str) -> bool:
    parts = Path(filename).parts
    return "site-packages" in parts or filename.startswith("<") or Path(filename).is_relative_to(_HERE)


_HERE: Final = Path(__file__).parents[1]


def _explained(error: Exception) -> str:
    text = str(error.args[0]) if error.args else str(error)
    unexpected = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text)
    if unexpected is None:
        return text if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: {error}"
    cls_name, field = unexpected.groups()
    fields = {
        name for cls in _subclasses(Config) if cls.__name__ == cls_name for name in attrs.fields_dict(cls)
    }
    return f"{cls_name} has no field {field!r}. {did_you_mean(field, fields)}"


def _subclasses(cls: type[Config]) -> Iterator[type[Config]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
