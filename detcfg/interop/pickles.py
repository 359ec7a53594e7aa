"""Read a pickle as data: nothing that it names is imported, nothing that it asks for is called.

Python's unpickler runs whatever a file says. This one is a small machine by itself: containers
and plain values are made, and each object that the pickle would have made by a call stays an `Inert`
record of that call. A few calls that only shape data (`OrderedDict()`, bytes as text) are known by name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any, Final, Protocol, cast

from attrs import define, field

from detcfg.config import ConfigError

MAX_OPERATIONS: Final = 4_000_000
"""Steps of one pickle; a checkpoint with its optimizer's state takes some fifty thousand."""
MAX_MADE: Final = 2**29
"""Bytes that all calls of one pickle may make together."""


class CheckpointError(ConfigError):
    """A file of weights cannot be read; the message starts with its path."""


@define(eq=False, repr=False)
class Inert:
    """What a pickle would have imported (`arguments` is None) or made by a call."""

    name: str
    """`module.attribute` of what it would have imported or called."""
    arguments: tuple[object, ...] | None = None
    state: object = None
    """What the object would have been set to."""
    items: list[object] = field(factory=list[object])
    """What would have been appended to it, or put in as (key, value)."""

    def __repr__(self) -> str:
        return f"<{self.name}>"


Call = Callable[..., object]


def _as_dict(items: object = ()) -> dict[object, object]:
    if isinstance(items, Mapping):
        items = list(cast("Mapping[object, object]", items).items())
    if not isinstance(items, list | tuple):
        raise TypeError("not pairs")
    return {_key(key): value for key, value in cast("list[tuple[object, object]]", items)}


def _default_dict(_factory: object = None, items: object = ()) -> dict[object, object]:
    return _as_dict(items)


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    if isinstance(text, str) and encoding in ("latin1", "latin-1", "utf-8", "ascii"):
        return text.encode(str(encoding))
    raise TypeError("not text")


CALLS: Final[dict[str, Call]] = {
    "collections.OrderedDict": _as_dict,
    "collections.Counter": _as_dict,
    "collections.defaultdict": _default_dict,
    "_codecs.encode": _encoded,
}
"""Calls that only shape data, and the functions that stand in for them."""


def _key(key: object, depth: int = 0) -> object:
    """A key of a dict, when hashing it is cheap."""
    if key is None or isinstance(key, str | int | float | bytes | Inert):
        return key
    if isinstance(key, tuple) and depth < 2:
        items = cast("tuple[object, ...]", key)
        if len(items) < 100:
            return tuple(_key(item, depth + 1) for item in items)
    if not isinstance(key, tuple | list | dict):
        return key  # what `persistent` or a call of ours made; those compare by identity
    raise ValueError("a container is the key of a dict")


class Readable(Protocol):
    """An open file."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...


def read_pickle(
    file: Readable,
    name: str,
    *,
    calls: Mapping[str, Call] | None = None,
    persistent: Callable[[object], object] | None = None,
) -> object:
    """The value of the pickle at the file's position, which moves to its end.

    Args:
        file: Where the pickle starts.
        name: What an error calls it.
        calls: More calls that only shape data, by name.
        persistent: Makes the objects that are stored outside the pickle from their ids.

    Raises:
        CheckpointError: It is broken, or larger than is read safely.
    """
    machine = _Machine({**CALLS, **(calls or {})}, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast("IO[bytes]", file))):
            if count > MAX_OPERATIONS:
                raise CheckpointError(
                    f"{name}: more than {MAX_OPERATIONS:,} steps; no checkpoint takes so many."
                )
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"{name} is broken, or is not a pickle: {error}") from None


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, calls: Mapping[str, Call], persistent: Callable[[object], object] | None) -> None:
        self.calls, self.persistent = calls, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.made = 0

    def step(self, code: str, argument: Any) -> None:
        if code in _PUSH:
            self.stack.append(argument)
        elif code in _EMPTY:
            self.stack.append(_EMPTY[code]())
        elif code in _CONSTANTS:
            self.stack.append(_CONSTANTS[code])
        elif code in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif code not in ("PROTO", "FRAME", "STOP"):
            action = getattr(self, f"do_{code.lower()}", None)  # the codes are pickletools'
            if action is None:
                raise ValueError(f"the operation {code} is not read")
            action(argument)

    def above_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def do_mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def do_pop(self, _: object) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def do_pop_mark(self, _: object) -> None:
        self.above_mark()

    def do_dup(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    def do_tuple(self, _: object) -> None:
        self.stack.append(tuple(self.above_mark()))

    def _last(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def do_tuple1(self, _: object) -> None:
        self._last(1)

    def do_tuple2(self, _: object) -> None:
        self._last(2)

    def do_tuple3(self, _: object) -> None:
        self._last(3)

    def do_list(self, _: object) -> None:
        self.stack.append(self.above_mark())

    def do_frozenset(self, _: object) -> None:
        self.stack.append(tuple(self.above_mark()))

    def do_dict(self, _: object) -> None:
        items = self.above_mark()
        self.stack.append({})
        self._put(items)

    def do_append(self, _: object) -> None:
        self._extend([self.stack.pop()])

    def do_appends(self, _: object) -> None:
        self._extend(self.above_mark())

    def do_additems(self, _: object) -> None:
        self._extend(self.above_mark())

    def do_setitem(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def do_setitems(self, _: object) -> None:
        self._put(self.above_mark())

    def _extend(self, items: list[object]) -> None:
        owner = self.stack[-1]
        if isinstance(owner, Inert):
            owner.items += items
        elif isinstance(owner, list):
            cast("list[object]", owner).extend(items)
        else:
            raise TypeError(f"nothing is appended to a {type(owner).__name__}")

    def _put(self, flat: list[object]) -> None:
        owner: object = self.stack[-1]
        pairs = zip(flat[::2], flat[1::2], strict=True)
        if isinstance(owner, dict):
            for key, value in pairs:
                owner[_key(key)] = value
        elif isinstance(owner, Inert):
            owner.items += pairs
        else:
            raise TypeError(f"a {type(owner).__name__} has no items")

    def do_global(self, argument: str) -> None:
        self.stack.append(Inert(_name(*argument.split(" ", 1))))

    def do_stack_global(self, _: object) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Inert(_name(module, attribute)))

    def do_reduce(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self._called(function, arguments))

    do_newobj = do_reduce

    def do_newobj_ex(self, _: object) -> None:
        named, arguments, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        made = self._called(function, arguments)
        if isinstance(made, Inert):
            made.items.append(named)
        self.stack.append(made)

    def do_obj(self, _: object) -> None:
        function, *arguments = self.above_mark()
        self.stack.append(self._called(function, tuple(arguments)))

    def do_inst(self, argument: str) -> None:
        self.stack.append(self._called(Inert(_name(*argument.split(" ", 1))), tuple(self.above_mark())))

    def _called(self, function: object, arguments: object) -> object:
        if not isinstance(function, Inert) or not isinstance(arguments, tuple):
            raise TypeError("calls something that is no function")
        values = cast("tuple[object, ...]", arguments)
        known = self.calls.get(function.name) if function.arguments is None else None
        if known is not None:
            try:
                made = known(*values)
            except (TypeError, ValueError):  # in a form that is not known: as inert as any other
                return Inert(function.name, values)
            self._pay(made)
            return made
        return Inert(function.name, values)

    def _pay(self, made: object) -> None:
        """Count what a call made; a long text may be encoded again and again."""
        if isinstance(made, bytes):
            self.made += len(made)
        elif isinstance(made, dict):
            self.made += 100 * len(cast("dict[object, object]", made))
        if self.made > MAX_MADE:
            raise ValueError("it grows beyond what is read safely")

    def do_build(self, _: object) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].state = state

    def do_persid(self, argument: str) -> None:
        self.stack.append(self._outside(argument))

    def do_binpersid(self, _: object) -> None:
        self.stack.append(self._outside(self.stack.pop()))

    def _outside(self, identity: object) -> object:
        if self.persistent is None:
            raise ValueError("refers to objects that are stored elsewhere")
        return self.persistent(identity)


def _name(module: object, attribute: object) -> str:
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise TypeError("imports something that has no name")
    return f"{'builtins' if module == '__builtin__' else module}.{attribute}"


_PUSH: Final = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
    ]
)
_EMPTY: Final[dict[str, Callable[[], object]]] = {
    "EMPTY_LIST": list[object],
    "EMPTY_SET": list[object],
    "EMPTY_DICT": dict[object, object],
    "EMPTY_TUPLE": tuple[object, ...],
}
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
