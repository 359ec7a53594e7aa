"""What a config from a stranger could try, and a folder for it to lie in.

    python -m tests.support.attacks

reads each of them in this process and says what the dearest cost: processor seconds, and the memory of all.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from detcfg.interop.mmdet.data import ReadError
from detcfg.interop.mmdet.read import read_config

LONG = 0.5
"""Seconds that are worth another look."""
ATTACKS: dict[str, str | bytes] = {
    "import os": "import os\nos.system('touch CANARY')",
    "import os.path": "import os.path as osp\nx = osp.join('a', 'b')",
    "from subprocess": "from subprocess import run\nrun(['touch', 'CANARY'])",
    "import of a package that runs code": "import torch\ntorch.load('CANARY')",
    "__import__": "__import__('os').system('touch CANARY')",
    "builtins": "x = __builtins__['open']('CANARY', 'w')",
    "open": "open('CANARY', 'w')",
    "eval": "eval(\"open('CANARY', 'w')\")",
    "exec": "exec(\"open('CANARY', 'w')\")",
    "getattr": "x = getattr(dict(), 'update')",
    "class of a tuple": "x = ().__class__.__bases__[0].__subclasses__()",
    "class of a string": "x = ''.__class__.__mro__",
    "class through format": "x = '{0.__class__.__init__.__globals__}'.format(dict())",
    "class through an f-string": "x = f'{().__class__}'",
    "dunder of a base": "_base_ = 'other.py'\nx = _base_.__class__",
    "dunder set on a base": "_base_ = 'other.py'\n_base_.__class__ = 3",
    "a function": "def f():\n    open('CANARY', 'w')\nf()",
    "a lambda": "x = (lambda: open('CANARY', 'w'))()",
    "a class": "class A:\n    open('CANARY', 'w')",
    "a decorator": "@print\nclass A: pass",
    "a with block": "with open('CANARY', 'w') as f:\n    pass",
    "with read_base and more": "with read_base(), open('CANARY', 'w'):\n    pass",
    "a try block": "try:\n    x = 1\nexcept Exception:\n    x = 2",
    "an endless loop": "while True:\n    pass",
    "a walrus": "x = (y := 3)",
    "a method of a class": "x = str.format('{}', 1)",
    "call of a value": "x = dict(a=1)\ny = x['a']()",
    "shadowed function": "dict = 3\nx = dict(a=1)",
    "a generator's frame": "x = (i for i in [1]).gi_frame",
    "a call in _base_": "_base_ = [open('CANARY', 'w')]",
    "long string": "x = 'a' * 10 ** 12",
    "long list": "x = [0] * 10 ** 12",
    "list by repetition": "x = [0] * 1000\n" + "x = [x] * 1000\n" * 6,
    "doubling string": "x = 'a' * 1000\n" + "x = x + x\n" * 60,
    "doubling list": "x = [0]\n" + "x = x + x\n" * 60,
    "a billion laughs": "x = ['ha']\n" + "x = [x, x, x, x, x, x, x, x, x, x]\n" * 20,
    "a billion laughs compared": "x = y = []\n" + "x = [x, x]\ny = [y, y]\n" * 40 + "z = x == y",
    "a billion laughs printed": "x = 1\n" + "x = (x, x)\n" * 50 + "y = f'{x}'",
    "a billion laughs as a key": "x = 1\n" + "x = (x, x)\n" * 50 + "y = {x: 1}",
    "a billion laughs as an index": "x = 1\n" + "x = (x, x)\n" * 50 + "y = [1]\ny[x] = 1",
    "a billion laughs looked up": "x = 1\n" + "x = (x, x)\n" * 50 + "y = dict().get(x)",
    "a billion laughs popped": "x = 1\n" + "x = (x, x)\n" * 50 + "y = dict().pop(x)",
    "a billion laughs in _base_": "_base_ = [x for x in [1]" + " for x in [(x, x)]" * 50 + "]",
    "a billion laughs as dicts": "x = dict()\n" + "x = dict(a=x, b=x, c=x)\n" * 40,
    "a billion laughs in a base": "_base_ = 'other.py'\nx = []\n" + "x = [x, x]\n" * 40 + "_base_.a = x",
    "a list in itself": "x = []\nx.append(x)",
    "a dict in itself": "x = dict()\nx['x'] = x\ny = f'{x}'",
    "power tower": "x = 9 ** 9 ** 9 ** 9",
    "growing number": "x = 3\n" + "x = x * x\n" * 40,
    "shifted number": "x = 1 << 10 ** 10",
    "wide format": "x = f'{1:>1000000000}'",
    "wide precision": "x = f'{1.0:.1000000000f}'",
    "wide format method": "x = '{:>1000000000}'.format(1)",
    "percent format": "x = '%1000000000d' % 1",
    "replace": "x = ('a' * 50000).replace('a', 'b' * 50000)",
    "join": "x = ('b' * 50000).join(['a'] * 50000)",
    "rounding to a power": "x = round(1, -(10 ** 10))",
    "a long key": f"x = dict()\ny = x[{'a' * 5000!r}]",
    "long keys": f"x = {{{', '.join(repr(str(i) * 900) for i in range(20))}}}\ny = x['z']".replace(
        ",", ": 1,"
    ),
    "long range": "x = [i for i in range(10 ** 10)]",
    "nested comprehension": "x = [0 for a in range(9999) for b in range(9999) for c in range(9999)]",
    "nested loops": "for a in range(9999):\n  for b in range(9999):\n    for c in range(9999):\n      x = a",
    "loop over a growing list": "x = [1]\nfor a in range(99999):\n    x += x",
    "deep brackets": "x = " + "[" * 150 + "]" * 150,
    "deeper brackets": "x = " + "(" * 5000 + ")" * 5000,
    "deep minus": "x = " + "-" * 100_000 + "1",
    "deep sum": "x = " + "+".join("1" * 5000),
    "deep attributes": "_base_ = 'other.py'\nx = _base_" + ".a" * 5000,
    "long braces": "x = '{{$A:" + " " * 200_000 + "'",
    "many braces": "x = '" + "{{ _base_" * 20_000 + "'",
    "null byte": "x = 1\x00",
    "huge literal": "x = " + "9" * 5000,
    "base in a circle": "_base_ = 'config.py'",
    "base in a longer circle": "_base_ = 'circle.py'",
    "exponential bases": "_base_ = 'fork0.py'",
    "base out of the root": "_base_ = '../../secret.py'",
    "base by absolute path": "_base_ = '/etc/passwd'",
    "base by a link": "_base_ = 'link.py'",
    "base of another kind": "_base_ = 'secret.txt'",
    "base that is a device": "_base_ = 'zero.py'",
    "base that is a pipe": "_base_ = 'pipe.py'",
    "base out of the configs' package": "_base_ = 'mmdet::../../secret.py'",
    "pure style out of the root": "with read_base():\n    from ...secret import *",
    "pure style in a circle": "with read_base():\n    from .config import *",
    # Strings
    "class through format by key": "x = '{0[__class__]}'.format(dict())",
    "class through a named field": "x = '{a.__class__}'.format(a=1)",
    "class through format_map": "x = '{a.__class__}'.format_map(dict(a=1))",
    "width in another field": "x = '{:{}}'.format(1, '>1000000000')",
    "width in a nested field": "w = '>1000000000'\nx = f'{1:{w}}'",
    "many fields": "x = 'a' * 90000\ny = ('{0}' * 20000).format(x)",
    "many long fields": "x = 'a' * 50000\ny = f'" + "{x}" * 1000 + "'",
    "many long templates": "_base_ = 'other.py'\nx = '" + "{{ _base_.a }}" * 20_000 + "'",
    "long sum of strings": "x = 'a' * 100000\ny = " + "+".join(["x"] * 50),
    "bytes": "x = b'a' * 10 ** 12",
    "a surrogate as a file": "x = open('\\ud800', 'w')",
    # Braces
    "code in braces": "x = {{ __import__('os').system('touch CANARY') }}",
    "class in braces": "_base_ = 'other.py'\nx = {{ _base_.__class__ }}",
    "class in a string's braces": "_base_ = 'other.py'\nx = '{{ _base_.a.__class__.__mro__ }}'",
    "another variable in braces": "x = '{{ fileSecret }}'",
    # Names
    "a class by wide letters": "x = ().__\uff43lass__",
    "a class by wide underscores": "x = ()._\uff3fclass__",
    "open by wide letters": "\uff4fpen('CANARY', 'w')",
    "import by wide letters": "import \uff4fs\nos.system('touch CANARY')",
    "a line that only Python sees": "x = 1 # a\ropen('CANARY', 'w')",
    "another encoding": "# -*- coding: rot13 -*-\nbcra('PNANEL', 'j')",
    "type": "x = type('A', (), {})",
    "globals": "x = globals()",
    "compile": "x = compile('1', '', 'eval')",
    "map": "x = map(open, ['CANARY'])",
    "a key for sorting": "x = sorted([1], key=open)",
    "a default": "x = min([], default=open('CANARY', 'w'))",
    "a default of a lambda": "x = lambda a=open('CANARY', 'w'): a",
    "a method as a value": "x = [].append",
    "an attribute of copy": "import copy\ncopy.os.system('touch CANARY')",
    "copy of a copy": "import copy\nx = copy.copy.deepcopy([1])",
    "numbers' attributes": "x = (1).real",
    "a dunder key": "x = dict(__class__=1)\ny = x.__class__",
    "an annotation without a value": "x: open('CANARY', 'w')",
    "deleting what a call returns": "del open('CANARY', 'w').x",
    "a long name": "a" * 900_000 + "()",
    # Statements
    "global": "global x\nx = 1",
    "return": "return 1",
    "raise": "raise SystemExit(0)",
    "assert": "assert open('CANARY', 'w')",
    "match": "match 1:\n    case 1: open('CANARY', 'w')",
    "async": "async def f():\n    open('CANARY', 'w')",
    "await": "x = await y",
    "break outside a loop": "x = 1\nbreak",
    "continue outside a loop": "for i in [1]:\n    break\ncontinue",
    "a set": "x = {1, 2}",
    "a star": "a, *b = [1, 2]",
    "an import after a semicolon": "x = 1; import os",
    "an import of everything": "from mmdet import *",
    # Growth
    "a dict of dicts of keys": "a = {str(i): 1 for i in range(200)}\n"
    + "a = {f'{k}{i}': v for k, v in a.items() for i in range(200)}\n" * 3,
    "doubling by a star": "a = [1]\n" + "a = [*a, *a]\n" * 60,
    "doubling tuple by a star": "a = (1,)\n" + "a = (*a, *a)\n" * 60,
    "doubling by copies": "from copy import deepcopy\na = [0] * 1000\n"
    + "a = [deepcopy(a), deepcopy(a)]\n" * 20,
    "doubling by zip": "x = [0] * 1000\n" + "x = zip(x, x)\n" * 30 + "y = str(x)",
    "a hundred thousand arguments": "x = dict(*[[('a', 1)]] * 100000)",
    "long tuple": "x = (0,) * 10 ** 12",
    "a sum of lists": "x = sum([[1] * 1000] * 1000, [])",
    "a number that doubles": "x = 1\n" + "x = x + x\n" * 3000,
    "a long number as an index": "x = 1\n" + "x = x + x\n" * 20_000 + "y = [1]\ny[x] = 1",
    "overflow": "x = 10.0 ** 400",
    "overflow in words": "x = 10 ** 10 ** 400",
    "a root of a negative number": "x = (-1) ** 0.5",
    "division by zero": "x = 1 / 0",
    "division by zero, in place": "x = 1\nx //= 0",
    "an infinite integer": "x = int(float('inf'))",
    # Values that contain themselves
    "a dict in itself by update": "a = dict()\na.update(a=a)",
    "a list in itself by extend": "a = []\na.extend([a])",
    "two lists in themselves compared": "a, b = [], []\na.append(a)\nb.append(b)\nc = a == b",
    "a list in itself copied": "import copy\na = []\na.append(a)\nb = copy.deepcopy(a)",
    "a base in itself": "_base_ = 'other.py'\n_base_.a.c = _base_",
    "a base in itself by update": "_base_ = 'other.py'\nb = _base_.a\nb.update(c=b)\nb.update(b)",
    # What Python's parser cannot bear
    "long module name": "import " + "a." * 300_000 + "b",
    "long module name on lines": "from " + "a. \\\n" * 1000 + "b import c",
    "many fields of one string": "x = f'" + "{1}" * 30_000 + "'",
    "many lines": "x = 1\n" * 170_000,
    "many pairs of brackets": "x = " + "()," * 300_000,
    "many nots": "x = " + "not " * 90_000 + "1",
    "many powers": "x = " + "**".join(["2"] * 3000),
    "many walruses": "x = " + "(y:=" * 1000 + "1" + ")" * 1000,
    "many indents": "".join(" " * level + "if 1:\n" for level in range(300)),
    "deep lambdas": "x = " + "lambda: " * 3000 + "1",
    "deep items": "x = [1]\ny = x" + "[0]" * 3000,
    # Files
    "two encodings": b"x = '\xe9'",
    "base in another encoding": "_base_ = 'latin.py'",
    "base that is a folder": "_base_ = 'folder.py'",
    "base that is the folder": "_base_ = './'",
    "base of 100 MB": "_base_ = 'large.py'",
    "base behind a linked folder": "_base_ = 'up/secret.py'",
    "base by a variable of the file": "_base_ = '{{ fileDirname }}/../../secret.py'",
    "base by the environment": "_base_ = '{{$HOME:../../secret.py}}'",
    "base of the process": "_base_ = '/proc/self/environ'",
    "base at home": "_base_ = '~/secret.py'",
    "base on the net": "_base_ = 'http://127.0.0.1/x.py'",
    "base with a null": "_base_ = 'a\\0b.py'",
    "base with half a letter": "_base_ = '\\ud800.py'",
    "base of a long name": "_base_ = 'a' * 90000 + '.py'",
    "base that is nothing": "_base_ = ''",
    "base that is a number": "_base_ = 3",
    "base in YAML": "_base_ = 'x.yaml'",
    "base in deep JSON": "_base_ = 'deep.json'",
    "base in three files": "_base_ = 'first.py'",
    "many bases": "_base_ = ['other.py'] * 1000",
    "pure style with a name": "with read_base() as base:\n    from .other import *",
    "pure style with an argument": "with read_base(open('CANARY', 'w')):\n    from .other import *",
    "pure style with a statement": "with read_base():\n    open('CANARY', 'w')",
    "pure style with an import": "with read_base():\n    import os",
    "pure style from a package": "with read_base():\n    from os import *",
    "pure style far up": "with read_base():\n    from " + "." * 30 + "etc.passwd import *",
    "pure style deep inside": "if True:\n    with read_base():\n        from .other import *",
}


def make_folder(above: Path) -> Path:
    """`a/configs/` with some files beside the attack, and a secret above it."""
    folder = above / "a" / "configs"
    folder.mkdir(parents=True)
    (above / "secret.py").write_text("token = 'secret'")
    (folder / "secret.txt").write_text("token = 'secret'")
    (folder / "other.py").write_text("a = dict(b=1)")
    (folder / "circle.py").write_text("_base_ = 'config.py'")
    (folder / "first.py").write_text("_base_ = 'second.py'")
    (folder / "second.py").write_text("_base_ = 'third.py'")
    (folder / "third.py").write_text("_base_ = 'first.py'")
    (folder / "latin.py").write_bytes(b"x = '\xe9'")
    (folder / "x.yaml").write_text("a: 1")
    (folder / "deep.json").write_text("[" * 400_000)
    (folder / "folder.py").mkdir()
    with (folder / "large.py").open("wb") as file:
        file.truncate(10**8)
    for level in range(40):
        (folder / f"fork{level}.py").write_text(f"_base_ = ['fork{level + 1}.py', 'fork{level + 1}.py']")
    (folder / "fork40.py").write_text("")
    (folder / "link.py").symlink_to(above / "secret.py")
    (folder / "up").symlink_to(above)
    (folder / "zero.py").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.py")
    return folder


def write_attack(folder: Path, name: str) -> Path:
    """The config that attacks."""
    attack = ATTACKS[name]
    path = folder / "config.py"
    path.write_bytes(attack if isinstance(attack, bytes) else attack.encode())
    return path


def _seconds(path: Path, folder: Path) -> float:
    start = time.process_time()
    try:
        read_config(path, config_root=folder)
    except ReadError:
        return time.process_time() - start
    raise AssertionError(f"{path} was read.")


def _memory() -> int:
    """The most bytes that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    with tempfile.TemporaryDirectory() as above:
        folder = make_folder(Path(above))
        os.chdir(folder)
        before, seconds = _memory(), dict[str, float]()
        for name in ATTACKS:
            path = write_attack(folder, name)
            seconds[name] = _seconds(path, folder)
            for _ in range(3):  # a busy machine is no fault of the reader's
                if seconds[name] > LONG:
                    seconds[name] = min(seconds[name], _seconds(path, folder))
        slowest = max(seconds, key=lambda name: seconds[name])
        found = {"slowest": slowest, "seconds": seconds[slowest], "bytes": _memory() - before}
        print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
