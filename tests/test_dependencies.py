"""What the package imports is what pyproject.toml declares."""

import ast
import re
import sys
import tomllib
from collections.abc import Set
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = packages_distributions()
"""Of each package that is installed."""
FILES = sorted((ROOT / "tokenflow").rglob("*.py"))


def distribution(requirement: str) -> str:
    """The normalised name of the distribution that a requirement is of."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~\[;]", requirement, maxsplit=1)[0]).lower()


REQUIRED = set(map(distribution, PROJECT["dependencies"]))
EXTRAS = {
    ROOT / "tokenflow" / "apps" / folder: set(map(distribution, PROJECT["optional-dependencies"][extra]))
    for folder, extra in (("web", "ui"), ("server", "serve"))
}
"""Folders of an extra: nothing imports them but the command that needs them."""
OPTIONAL = {distribution(each) for group in PROJECT["optional-dependencies"].values() for each in group}


def third_party(node: ast.AST) -> set[str]:
    """The third-party packages that a statement imports."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    else:
        return set()
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"tokenflow"}


def undeclared(code: str, extras: Set[str] = frozenset()) -> set[str]:
    """Packages imported but not declared; those of an extra may be imported inside functions, and those of `extras`
    anywhere."""
    tree = ast.parse(code)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(node) for function in functions for node in ast.walk(function)}
    missing = set()
    for node in ast.walk(tree):
        declared = REQUIRED | OPTIONAL if id(node) in late else REQUIRED | extras
        for name in third_party(node):
            if not declared & set(map(distribution, DISTRIBUTIONS.get(name, [name]))):
                missing.add(name)
    return missing


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "tokenflow")))
def test_every_import_is_declared(path: Path) -> None:
    extras = frozenset[str]().union(*(extra for folder, extra in EXTRAS.items() if folder in path.parents))
    assert not undeclared(path.read_text(encoding="utf-8"), extras)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import json, torch.nn\nfrom PIL import Image\nimport cv2, yaml", set()),
        ("import unheard_of.api", {"unheard_of"}),
        ("import ray", {"ray"}),
        ("def start():\n    import ray", set()),
        ("def start():\n    from nowhere.at import all", {"nowhere"}),
    ],
)
def test_an_import_that_is_not_declared_is_found(code: str, expected: set[str]) -> None:
    assert undeclared(code) == expected
