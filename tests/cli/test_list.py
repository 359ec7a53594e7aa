"""`detcfg list`: what there is to put into an experiment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from detcfg.catalogue import KINDS, components
from tests.support.commands import Command

MINE = '''
from attrs import frozen

from detcfg.necks.fpn import FPN, FPNConfig


@frozen(kw_only=True)
class MyNeckConfig(FPNConfig):
    """A neck of my own.

    It is described further below its first line.
    """

    def build(self) -> FPN:
        return FPN(self.resolved())


@frozen(kw_only=True)
class Preset(FPNConfig):
    out_channels: int = 64
'''


def test_components_come_by_kind_with_what_they_are_and_where(command: Command) -> None:
    out = command("list").out
    line = next(line for line in out.splitlines() if line.startswith("DoubleHeadRoIHeadConfig"))

    assert "https://arxiv.org/abs/1904.06493" in line
    assert line.endswith("detcfg.heads.roi.double_head_roi_head:DoubleHeadRoIHeadConfig")
    headers = [line.split("   ")[0] for line in out.splitlines() if line.endswith("where it is")]
    assert headers == [kind for kind in dict.fromkeys(KINDS.values()) if kind in headers]
    heads = {"dense head", "proposal head", "RoI head", "bbox head", "mask head", "instance head"}
    assert {"detector", "backbone", "neck", *heads, "RoI extractor", "loss"} <= set(headers)


def test_one_kind_alone(command: Command) -> None:
    out = command("list", "neck").out

    assert "FPNConfig" in out
    assert "ResNetConfig" not in out


def test_one_kind_of_head_alone(command: Command) -> None:
    out = command("list", "mask head").out

    assert "FCNMaskHeadConfig" in out
    assert "FCOSHeadConfig" not in out


def test_head_means_heads_of_every_kind(command: Command) -> None:
    lines = command("list", "head").out.splitlines()
    named = [line for line in lines if ":" in line]

    assert {line.rpartition(" ")[2].split(".")[1] for line in named} == {"heads"}
    assert {"FCOSHeadConfig", "RPNHeadConfig", "StandardRoIHeadConfig", "FCNMaskHeadConfig"} <= {
        line.split(" ")[0] for line in named
    }


def test_a_kind_that_is_none_is_refused_with_the_nearest(command: Command) -> None:
    assert "Did you mean 'mask head'?" in command("list", "masks head").err


def test_a_users_module_is_listed_too(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_parts_to_list.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds the folder it is called in

    lines = command("list", "neck", "--module", "my_parts_to_list").out.splitlines()
    mine = [line.split("   ") for line in lines if "my_parts_to_list" in line]

    assert [["MyNeckConfig", "A neck of my own.", "my_parts_to_list:MyNeckConfig"]] == [
        [cell.strip() for cell in line if cell.strip()] for line in mine
    ]


def test_every_component_says_what_it_is() -> None:
    assert [] == [component.path for component in components() if not component.summary]


def test_bases_and_presets_are_not_components() -> None:
    names = {component.cls.__name__ for component in components()}

    assert not names & {
        *("BackboneConfig", "NeckConfig", "DetectorConfig", "AssignerConfig", "Config", "Model", "Preset")
    }


def test_fields_are_listed_with_the_range_that_each_takes(command: Command) -> None:
    lines = command("list", "neck", "--fields").out.splitlines()
    of_fpn = lines[lines.index("FPNConfig") :]
    row = {line.split()[0]: " ".join(line.split()[1:]) for line in reversed(of_fpn) if line}

    assert row["out_channels"] == "int of at least 1 256"
    assert row["num_outs"] == "int from 1 to 32 5"
    assert row["end_level"] == "int of at least 0, or -1 for the last -1"
    assert row["in_channels"].endswith("(derived)")
