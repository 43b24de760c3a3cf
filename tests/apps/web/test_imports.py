"""What takes seconds to import is imported by one thread at a time."""

import ast
from pathlib import Path

import pytest

import tokenflow.apps.web

FILES = sorted(Path(tokenflow.apps.web.__file__).parent.glob("*.py"))

HEAVY = ("torch", "tokenflow.video", "tokenflow.models", "tokenflow.pipeline", "tokenflow.apps.dry_run")


def imports_beside_the_lock(code: str) -> list[str]:
    """The heavy modules that functions import outside of a `with importing()` block."""
    found: list[str] = []

    def look(node: ast.AST, in_function: bool) -> None:
        if isinstance(node, ast.With) and any(ast.unparse(item.context_expr) == "importing()" for item in node.items):
            return
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found.extend(name for name in names if in_function and name.startswith(HEAVY))
        for child in ast.iter_child_nodes(node):
            look(child, in_function or isinstance(node, ast.FunctionDef))

    look(ast.parse(code), False)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_functions_import_heavy_modules_in_turn(path: Path) -> None:
    assert imports_beside_the_lock(path.read_text(encoding="utf-8")) == []


def test_an_import_beside_the_lock_is_found() -> None:
    code = "def f():\n    with importing():\n        import torch\n    from tokenflow.pipeline.job import run"
    assert imports_beside_the_lock(code) == ["tokenflow.pipeline.job"]
