"""What a config from a stranger could try is refused by file:line, without effect and at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from detcfg.interop.mmdet.data import ReadError
from detcfg.interop.mmdet.read import read_config

ATTACKS = {
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
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`a/configs/` with some files beside the attack, and a secret above it."""
    folder = tmp_path / "a" / "configs"
    folder.mkdir(parents=True)
    (tmp_path / "secret.py").write_text("token = 'secret'")
    (folder / "secret.txt").write_text("token = 'secret'")
    (folder / "other.py").write_text("a = dict(b=1)")
    (folder / "circle.py").write_text("_base_ = 'config.py'")
    for level in range(40):
        (folder / f"fork{level}.py").write_text(f"_base_ = ['fork{level + 1}.py', 'fork{level + 1}.py']")
    (folder / "fork40.py").write_text("")
    (folder / "link.py").symlink_to(tmp_path / "secret.py")
    (folder / "zero.py").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.py")
    return folder


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    path = folder / "config.py"
    path.write_text(ATTACKS[name])
    before = {file: file.lstat().st_mtime for file in folder.parent.rglob("*")}
    start = time.process_time()
    with pytest.raises(ReadError) as caught:
        read_config(path, config_root=folder)
    assert time.process_time() - start < 1
    message = str(caught.value)
    file, _, rest = message.partition(".py:")
    assert Path(f"{file}.py").is_file()
    assert rest.partition(":")[0].isdecimal()
    assert len(message) < 1000
    assert "'secret'" not in message
    assert {file: file.lstat().st_mtime for file in folder.parent.rglob("*")} == before


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("x = [" + "1," * 2**20 + "]")
    with pytest.raises(ReadError, match="bytes"):
        read_config(path)


def test_a_list_of_thirteen_thousand_classes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    classes = [f"class number {index}" for index in range(13_000)]
    path.write_text(
        f"classes = {classes}\ntrain = dict(classes=classes)\nval = dict(classes=classes)\ntest = val"
    )
    assert read_config(path).data["test"]["classes"] == classes
