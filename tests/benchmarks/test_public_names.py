"""Benchmarks reach into nothing: neither by patching the package nor by its private names."""

import ast
import inspect
import re
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

import benchmarks

MODULES = sorted(path.stem for path in Path(benchmarks.__file__).parent.glob("*.py") if path.stem != "__init__")
OTHERS = "torch.ops.aten.", "os._exit"
"""Public in spite of their names: operations of torch, and the way to end a process from any thread."""


def source(module: str) -> str:
    return Path(benchmarks.__file__).with_name(f"{module}.py").read_text(encoding="utf-8")


def parsed(module: str) -> ast.Module:
    return ast.parse(source(module))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_patched(module: str) -> None:
    assert not re.findall(r"mock|setattr|delattr|monkeypatch", source(module))


@pytest.mark.parametrize("module", MODULES)
def test_private_attributes_are_those_of_the_class_itself(module: str) -> None:
    accesses = [node for node in ast.walk(parsed(module)) if isinstance(node, ast.Attribute) and is_private(node.attr)]
    foreign = {ast.unparse(node) for node in accesses if ast.unparse(node.value) != "self"}
    assert not {name for name in foreign if not name.startswith(OTHERS)}


@pytest.mark.parametrize("module", MODULES)
def test_private_names_are_not_imported(module: str) -> None:
    imports = [node for node in ast.walk(parsed(module)) if isinstance(node, ast.ImportFrom)]
    assert not {alias.name for node in imports for alias in node.names if is_private(alias.name)}


@pytest.mark.parametrize("module", MODULES)
def test_subclasses_use_and_override_no_private_name_of_the_package(module: str) -> None:
    """A private name of a class is one that it defines itself, and that none of its bases in the package has."""
    for kind in vars(import_module(f"benchmarks.{module}")).values():
        if inspect.isclass(kind) and kind.__module__ == f"benchmarks.{module}":
            used, defined = private_names(kind)
            assert used <= defined
            for base in kind.__mro__[1:]:
                if base.__module__.startswith("tokenflow."):
                    assert not defined & set.union(*private_names(base))


def private_names(kind: type) -> tuple[set[str], set[str]]:
    """The private names that a class uses on `self`, and those that it defines."""
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind)))))
    on_self = [node for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"]
    methods = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    defined = methods | {node.attr for node in on_self if isinstance(node.ctx, ast.Store)}
    return {node.attr for node in on_self if is_private(node.attr)}, set(filter(is_private, defined))
