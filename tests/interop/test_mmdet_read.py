"""A config is read as MMDetection reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detcfg.interop.mmdet.data import Node, ReadError
from detcfg.interop.mmdet.read import read_config


def write(folder: Path, **files: str) -> Path:
    """Write files (`a__b` is `a/b.py`) into the folder of configs and return the one called `config`."""
    for name, text in files.items():
        path = folder / "configs" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "configs" / "config.py"


def read(folder: Path, **files: str) -> Node:
    return read_config(write(folder, **files)).data


def test_a_child_is_merged_into_its_base(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        base="model = dict(type='A', head=dict(classes=80, layers=[1, 2]))\nepochs = 12",
        config="_base_ = './base.py'\nmodel = dict(head=dict(classes=3))",
    )
    assert data == {"model": {"type": "A", "head": {"classes": 3, "layers": [1, 2]}}, "epochs": 12}


def test_delete_replaces_the_base(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        base="loss = dict(type='L1', beta=1)",
        config="_base_ = 'base.py'\nloss = dict(_delete_=True, type='GIoU')",
    )
    assert data == {"loss": {"type": "GIoU"}}


def test_delete_without_a_base_leaves_no_mark(tmp_path: Path) -> None:
    assert read(tmp_path, config="a = dict(b=dict(_delete_=True, c=1))") == {"a": {"b": {"c": 1}}}


def test_a_list_is_replaced_whole(tmp_path: Path) -> None:
    data = read(tmp_path, base="a = [1, 2, 3]", config="_base_ = ['base.py']\na = [4]")
    assert data == {"a": [4]}


def test_items_of_a_list_are_merged_by_number(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        base="head = [dict(n=1, k=5), dict(n=2)]",
        config="_base_ = 'base.py'\nhead = {'0': dict(n=7)}",
    )
    assert data == {"head": [{"n": 7, "k": 5}, {"n": 2}]}


def test_one_dict_under_two_names_deletes_twice(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        base="val = dict(a=1)\ntest = dict(a=2)",
        config="_base_ = 'base.py'\nval = dict(_delete_=True, b=1)\ntest = val",
    )
    assert data == {"val": {"b": 1}, "test": {"b": 1}}


def test_several_bases_in_other_folders(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        parts__model="model = dict(type='A')",
        parts__runtime="epochs = 1",
        config="_base_ = ['parts/model.py', './parts/runtime.py']\nx = 1",
    )
    assert data == {"model": {"type": "A"}, "epochs": 1, "x": 1}


def test_two_bases_with_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="two bases define a"):
        read(tmp_path, one="a = 1", two="a = 2", config="_base_ = ['one.py', 'two.py']")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{_base_.size}}", [3, 4]),
        ("{{ _base_.size }}", [3, 4]),
        ("'{{ _base_.size }}'", [3, 4]),
        ("_base_.size", [3, 4]),
        ("_base_['size']", [3, 4]),
        ("_base_.size[0] * 2", 6),
        ("_base_.model.backbone.depth", 50),
        ("'{{ fileBasenameNoExtension }}'", "config"),
        ("'runs/{{ fileBasename }}'", "runs/config.py"),
        ("'{{$NOT_SET_ANYWHERE:data/coco}}/train'", "data/coco/train"),
        ("{{'$NOT_SET_ANYWHERE:80'}}", 80),
    ],
)
def test_variables(tmp_path: Path, text: str, value: object) -> None:
    base = "size = [3, 4]\nmodel = dict(backbone=dict(depth=50))"
    assert read(tmp_path, base=base, config=f"_base_ = 'base.py'\nx = {text}")["x"] == value


def test_variables_of_the_environment_keep_their_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hush")
    assert read(tmp_path, config="x = '{{$SECRET:none}}'") == {"x": "none"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 - 4 // 3 % 2", 6),
        ("1 / 9", 1 / 9),
        ("2 ** 0.25", 2**0.25),
        ("-0.5", -0.5),
        ("[0.1] * 2 + [0.3]", [0.1, 0.1, 0.3]),
        ("'a' 'b' + 'c'", "abc"),
        ("f'{1 + 1:03d}/{\"x\"!r}'", "002/'x'"),
        ("[i * 2 for i in range(4) if i % 2]", [2, 6]),
        ("[(s, b) for s in 'ab' for b in range(2)]", [("a", 0), ("a", 1), ("b", 0), ("b", 1)]),
        ("{f'k{i}': v for i, v in enumerate([5, 6])}", {"k0": 5, "k1": 6}),
        ("dict(a=1, **dict(b=2))", {"a": 1, "b": 2}),
        ("dict([('a', 1)])", {"a": 1}),
        ("{**dict(a=1), 'b': None}", {"a": 1, "b": None}),
        ("dict(a=1) | dict(a=2)", {"a": 2}),
        ("tuple([1, 2])", (1, 2)),
        ("(1, *[2, 3])", (1, 2, 3)),
        ("[1, 2, 3][::-1]", [3, 2, 1]),
        ("'x' if 1 < 2 <= 2 else 'y'", "x"),
        ("None or 3", 3),
        ("'a' in ['a'] and not False", True),
        ("max(3, 4) + min([1, 2]) + sum([1, 2]) + abs(-1) + round(2.6)", 12),
        ("int('3') + len('abc') + int(float('2'))", 8),
        ("'{}-{b}'.format(1, b=2)", "1-2"),
        ("', '.join(['a', 'b']).replace('a', 'c').upper()", "C, B"),
        ("'a/b'.split('/')", ["a", "b"]),
        ("sorted({'b': 1, 'a': 2}.items())", [("a", 2), ("b", 1)]),
        ("list(zip([1, 2], (3, 4)))", [(1, 3), (2, 4)]),
        ("dict(a=1).get('b', 2)", 2),
        ("inf", float("inf")),
    ],
)
def test_expressions(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, config=f"x = {text}")["x"]
    assert found == value
    assert type(found) is type(value) or isinstance(found, Node)


def test_statements(tmp_path: Path) -> None:
    text = """
a = dict(x=1)
b = a.copy()
b['x'] = 2
b.update(y=3)
a.update(dict(z=4))
names = []
for i in range(10):
    if i == 1:
        continue
    if i == 3:
        break
    names.append(f'n{i}')
else:
    names.append('never')
first, (second, *_) = 1, (2,)
""".replace(", *_", ",")
    data = read(
        tmp_path,
        config=text + "i += 1\ndel i\nx: int = 3\ns = dict(k=1)\ns.pop('k')\nt = s.setdefault('q', 9)",
    )
    assert data == {
        "a": {"x": 1, "z": 4},
        "b": {"x": 2, "y": 3},
        "names": ["n0", "n2"],
        "first": 1,
        "second": 2,
        "x": 3,
        "s": {"q": 9},
        "t": 9,
    }


def test_a_base_can_be_changed_in_place(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        base="model = dict(type='A', pre=1, head=dict(coder=dict(type='B', stds=[1])))\nhooks = 1",
        config="""
_base_ = 'base.py'
detector = _base_.model
detector.pop('pre')
detector['head'].update(dict(coder=dict(clip=False)))
detector.head.coder.stds = [2]
del _base_.model
del _base_['hooks']
model = dict(type='Tracker', detector=detector)
""",
    )
    detector = {"type": "A", "head": {"coder": {"type": "B", "stds": [2], "clip": False}}}
    assert data == {"model": {"type": "Tracker", "detector": detector}, "detector": detector}


def test_the_pure_python_style(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        parts__model="""
import torch.nn as nn
from mmdet.models import ResNet, RetinaNet
model = dict(type=RetinaNet, backbone=dict(type=ResNet, depth=50), act=dict(type=nn.ReLU))
""",
        parts__data="batch = 2\ndata = dict(loader=dict(batch_size=batch, steps=[1, 2]))",
        config="""
from mmengine.config import read_base
with read_base():
    from .parts.model import *
    from .parts.data import data as loader
from copy import deepcopy
from mmdet.models.necks import FPN
model.update(dict(backbone=dict(depth=101), neck=dict(type=FPN)))
model['second'] = deepcopy(model['backbone'])
model.second.depth = 18
loader.merge(dict(loader=dict(_delete_=True, batch_size=4)))
""",
    )
    assert data == {
        "model": {
            "type": "mmdet.models.RetinaNet",
            "backbone": {"type": "mmdet.models.ResNet", "depth": 101},
            "act": {"type": "torch.nn.ReLU"},
            "neck": {"type": "mmdet.models.necks.FPN"},
            "second": {"type": "mmdet.models.ResNet", "depth": 18},
        },
        "loader": {"loader": {"batch_size": 4}},
    }


def test_names_of_mmdets_configs(tmp_path: Path) -> None:
    root = tmp_path / "mmdet" / "configs"
    (root / "retinanet").mkdir(parents=True)
    (root / "retinanet" / "r50.py").write_text("depth = 50")
    mine = tmp_path / "mine" / "a" / "config.py"
    mine.parent.mkdir(parents=True)
    for text in ("_base_ = 'mmdet::retinanet/r50.py'", "_base_ = 'mmdet::retinanet/r50'"):
        mine.write_text(text)
        assert read_config(mine, config_root=root).data == {"depth": 50}
    mine.write_text("with read_base():\n    from mmdet.configs.retinanet.r50 import *")
    assert read_config(mine, config_root=root).data == {"depth": 50}
    mine.write_text("_base_ = 'mmdet::retinanet/r50.py'")
    with pytest.raises(ReadError, match="--config-root"):
        read_config(mine)


def test_json(tmp_path: Path) -> None:
    write(tmp_path, config="a = dict(b=1, c=2)")
    path = tmp_path / "configs" / "child.json"
    path.write_text(json.dumps({"_base_": "config.py", "a": {"b": 3}}))
    assert read_config(path).data == {"a": {"b": 3, "c": 2}}


def test_every_key_knows_its_place(tmp_path: Path) -> None:
    source = read_config(
        write(
            tmp_path,
            base="model = dict(\n    type='A',\n    head=dict(\n        classes=80))",
            config="_base_ = 'base.py'\nmodel = dict(\n    head=dict(loss=1))",
        )
    )
    head = source.data["model"]["head"]
    assert (head.locations["classes"].file.name, head.locations["classes"].line) == ("base.py", 4)
    assert (head.locations["loss"].file.name, head.locations["loss"].line) == ("config.py", 3)
    assert [path.name for path in source.files] == ["config.py", "base.py"]


def test_a_dict_over_a_list_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ReadError, match=r"config\.py:2: a is a dict here and a list in the base\. Write _delete_"
    ):
        read(tmp_path, base="a = [1]", config="_base_ = 'base.py'\na = dict(b=1)")


TRUSTED = """
_base_ = 'base.py'
import math
from mmdet.models import ResNet

def scaled(n):
    return math.sqrt(n)

width = scaled(4)
model = _base_.model
model.update(dict(backbone=dict(type=ResNet, width=width)))
"""


def test_trust_runs_what_is_more_than_data(tmp_path: Path) -> None:
    path = write(tmp_path, base="model = dict(backbone=dict(depth=50))", config=TRUSTED)
    with pytest.raises(ReadError, match=r"config\.py:3: .*--trust"):
        read_config(path)
    data: dict[str, Any] = read_config(path, trust=True).data
    assert data["width"] == 2.0
    assert data["model"] == {"backbone": {"depth": 50, "type": "mmdet.models.ResNet", "width": 2.0}}
