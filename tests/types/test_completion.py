"""An editor offers every field of a config, with its type and docstring, as pyright's language server shows."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from detcfg.heads.bbox.double_conv_fc_bbox_head import DoubleConvFCBBoxHeadConfig
from detcfg.heads.roi.double_head_roi_head import DoubleHeadRoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig

ROOT = Path(__file__).parents[2]

CALL = """from detcfg.heads.roi.double_head_roi_head import DoubleHeadRoIHeadConfig

roi_head = DoubleHeadRoIHeadConfig("""

ATTRIBUTE = """from experiments.double_head import Experiment

model = Experiment().model
model.roi_head.bbox_head."""

EVOLVE = """from detcfg.config import evolve
from detcfg.experiments import double_head

ROI_HEAD = double_head.Model().roi_head
roi_head = evolve(ROI_HEAD, """

INHERITED = """from detcfg.experiments import faster_rcnn

faster_rcnn.Model().roi_head."""


class Server:
    """A language server on its standard input and output (the protocol's base layer)."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from pyright.langserver import main; main('--stdio')"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.numbers = itertools.count(1)
        folders = [{"uri": folder.as_uri(), "name": "user"}]
        documentation = {"completionItem": {"documentationFormat": ["markdown"]}}
        self.ask(
            "initialize",
            {
                "processId": None,
                "rootUri": folder.as_uri(),
                "workspaceFolders": folders,
                "capabilities": {
                    "textDocument": {"completion": documentation},
                    "workspace": {"configuration": True},
                },
            },
        )
        self.tell("initialized", {})

    def tell(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, params: Any) -> Any:
        number = next(self.numbers)
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message
                return message["result"]
            if "id" in message:  # what the server asks of an editor: its settings
                items = message["params"].get("items", []) if message.get("params") else []
                python = {"pythonPath": sys.executable}
                answer = [python if item.get("section") == "python" else None for item in items]
                self._send({"id": message["id"], "result": answer})

    def open(self, file: Path, text: str) -> dict[str, Any]:
        """Open a file with a text that is not saved: where its end is."""
        document = {"uri": file.as_uri(), "languageId": "python", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        *above, last = text.split("\n")
        position = {"line": len(above), "character": len(last)}
        return {"textDocument": {"uri": file.as_uri()}, "position": position}

    def completions(self, end: dict[str, Any]) -> dict[str, str]:
        """What is offered at a place, each with its type and documentation."""
        found = self.ask("textDocument/completion", end)
        return {
            item["label"].rstrip("="): self._documentation(item)
            for item in found["items"]
            if item["label"].rstrip("=").isidentifier()
        }

    def _documentation(self, item: dict[str, Any]) -> str:
        if item["label"].startswith("_"):
            return ""
        return str(self.ask("completionItem/resolve", item).get("documentation", {}))

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name == b"Content-Length":
                length = int(value)
        if not length:
            pytest.skip("pyright's language server does not start here; it needs node")
        found: dict[str, Any] = json.loads(self.process.stdout.read(length))
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server(ROOT)
    yield found
    found.process.kill()
    found.process.wait()


def test_fields_are_offered_inside_a_call_with_their_types(server: Server) -> None:
    end = server.open(ROOT / "experiments" / "mine.py", CALL)
    signature = server.ask("textDocument/signatureHelp", end)["signatures"][0]["label"]

    assert set(attrs.fields_dict(DoubleHeadRoIHeadConfig)) <= set(server.completions(end))
    assert "reg_roi_scale_factor: PositiveFloat" in signature
    assert "bbox_head: DoubleConvFCBBoxHeadConfig" in signature


def test_fields_are_offered_after_a_dot_with_type_and_docstring(server: Server) -> None:
    offered = server.completions(server.open(ROOT / "experiments" / "other.py", ATTRIBUTE))

    assert set(attrs.fields_dict(DoubleConvFCBBoxHeadConfig)) <= set(offered)
    assert "num_convs: NumLayers" in offered["num_convs"]
    assert "Bottleneck blocks of the regression branch" in offered["num_convs"]
    for name in attrs.fields_dict(DoubleConvFCBBoxHeadConfig):
        kind, _, docstring = offered[name].partition("---")
        assert f"{name}: " in kind
        assert docstring.strip(" \\n'}"), name


def test_fields_are_offered_inside_evolve(server: Server) -> None:
    offered = server.completions(server.open(ROOT / "experiments" / "evolved.py", EVOLVE))

    assert set(attrs.fields_dict(DoubleHeadRoIHeadConfig)) <= set(offered)


def test_the_head_that_stands_in_a_shipped_experiment_offers_its_own_fields(server: Server) -> None:
    offered = server.completions(server.open(ROOT / "experiments" / "inherited.py", INHERITED))

    assert set(attrs.fields_dict(StandardRoIHeadConfig)) <= set(offered)
