"""Valid inputs, spoilt: bytes, texts and trees of plain data, by a generator that its seed decides."""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import Any, Final

# fmt: off
HOSTILE: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2, 0.5, 7, 1e-300, 1e308, -1e308, 2**31, 2**53 + 1, -(2**63), 2**64, 10**40,
    float("nan"), float("inf"), -float("inf"),
    "", " ", "nan", "1", "none", "\0", "\ud800", "\u202eevil", "ä" * 300, "a\nb", '"""', '"""\nimport os\n"""',
    "../../../etc/passwd", "/etc/passwd", "C:\\a", "os:system", "{{ fileDirname }}", "${X}", "%s%n", "\x1b[31m",
    [], {}, [[]], [None], [{}], [[[1]]], {"a": {}}, {"": []}, {"type": 3}, {"id": 1}, [1, "2", None], [0] * 500,
)
"""Values that some reader somewhere did not expect."""
TOKENS: Final = (
    "[", "]", "{", "}", "(", ")", ",", ":", "=", '"', "'", "\\", "\n", "\t", "#", ".", "-", "*", "**", "@", ";",
    "0", "-1", "1e999", "9" * 30, "9" * 5000, "0x", "1_", "NaN", "Infinity", "null", "None", "True", "true",
    "\0", "\ufeff", "\ud7ff", "\u2028", "\U0001f600", "é", "<", ">", "&", "]]>", "<!--", "&#0;", "<a>", "</a>",
    "[" * 5000, "(" * 300, '{"a":' * 2000, "-" * 5000, "<a>" * 5000, "''' ", "_base_", "{{", "}}", "__class__",
)
"""Pieces of text that some parser somewhere did not expect."""
# fmt: on


def spoilt_bytes(draw: Random, content: bytes) -> bytes:
    """Some bits, bytes or runs of a file are others."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        if not data:
            return bytes(data)
        place = draw.randrange(len(data))
        match draw.randrange(4):
            case 0:
                data[place] ^= 1 << draw.randrange(8)
            case 1:
                data[place] = draw.randrange(256)
            case 2:
                del data[place : place + draw.randrange(1, 40)]
            case _:
                data[place:place] = draw.randbytes(draw.randrange(1, 9))
    return bytes(data)


def spoilt_text(draw: Random, text: str, others: tuple[str, ...]) -> str:
    """Some pieces of a text are deleted, doubled, moved, or those of another text or of `TOKENS`."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        start = draw.randint(0, len(text))
        end = min(len(text), start + draw.choice((0, 1, 1, 3, 10, 60)))
        match draw.randrange(8):
            case 0:
                piece = ""
            case 1:
                piece = draw.choice(TOKENS)
            case 2:
                piece = repr(draw.choice(HOSTILE))
            case 3:
                other = draw.choice(others)
                cut = draw.randint(0, len(other))
                piece = other[cut : cut + draw.choice((3, 20, 200))]
            case 4:
                piece = text[start:end] * draw.choice((2, 2, 3, 200))
            case 5:
                piece = chr(draw.choice((draw.randrange(32, 127), draw.randrange(0xD7FF))))
            case 6:
                piece, end = "", len(text)  # cut off
            case _:
                place = draw.randint(0, len(text))
                piece = text[place : place + draw.choice((1, 5, 40))]
        text = text[:start] + piece + text[end:]
    return text


def spoilt_tree(draw: Random, tree: Any) -> Any:
    """A few values of a tree of dicts and lists are of another kind, gone, doubled, swapped or nested."""
    tree = deepcopy(tree)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        if not (places := _places(tree)):
            return hostile(draw)
        owner, key = draw.choice(places)
        match draw.randrange(8):
            case 0:
                del owner[key]
            case 1:
                owner[key] = draw.choice(([owner[key]], {draw.choice(("a", "id", "type", "")): owner[key]}))
            case 2:
                other, name = draw.choice(places)
                there = name in other if isinstance(other, dict) else name < len(other)
                owner[key] = deepcopy(other[name]) if there else None
            case 3 if isinstance(owner, list):
                owner.insert(draw.randint(0, len(owner)), deepcopy(owner[key]))
            case 3:
                owner[f"{key}{draw.choice(('_', ' ', 's', chr(0)))}"] = owner.pop(key)
            case 4 | 5:
                owner[key] = _other(draw, owner[key])
            case 6 if draw.random() < 0.1:
                owner[key] = _nested(owner[key], draw.choice((70, 300)))
            case _:
                owner[key] = hostile(draw)
    return tree


def _other(draw: Random, value: Any) -> Any:
    """A number or a text that is a little unlike a given one."""
    if type(value) in (int, float):
        return draw.choice((-value, value * 10**6, value + 1, value + 0.5, str(value)))
    return spoilt_text(draw, value, TOKENS) if isinstance(value, str) else hostile(draw)


def hostile(draw: Random) -> Any:
    """One of `HOSTILE`."""
    return deepcopy(draw.choice(HOSTILE))


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a tree."""
    found: list[tuple[Any, Any]] = []
    level = [tree]
    while level:
        value = level.pop()
        if isinstance(value, dict | list):
            keys = list(value) if isinstance(value, dict) else range(len(value))
            found += [(value, key) for key in keys]
            level += [value[key] for key in keys]
    return found


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value
