"""Nothing that comes from elsewhere is executed: no unpickling, no eval, no shell, in the whole package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import detcfg

PACKAGE = Path(detcfg.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
TRUSTED = {"interop/mmdet/trust.py": {"exec", "compile"}}
"""Where a person has said by --trust that a config may run."""
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "Unpickler", "unsafe_load"}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}


def called(node: ast.Call) -> str:
    """`eval` of `eval(...)`, `system` of `os.system(...)`; but methods of other things, as `model.eval()`, not."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    if isinstance(node.func, ast.Attribute) and node.func.attr not in ("eval", "compile"):
        return node.func.attr
    return ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_runs_and_unpickles_nothing(path: Path) -> None:
    allowed = TRUSTED.get(str(path.relative_to(PACKAGE)), set())
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in names} & MODULES, ast.unparse(node)
        if isinstance(node, ast.Call):
            assert called(node) not in CALLS - allowed, ast.unparse(node)
            keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert keywords.get("shell") != "True"
            assert keywords.get("allow_pickle") != "True"
            if ast.unparse(node.func) in ("torch.load", "torch.hub.load"):
                assert keywords.get("weights_only") == "True", ast.unparse(node)
