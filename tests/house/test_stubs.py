"""What the compiled modules offer is what their stubs say: type checkers and editors see nothing else of them."""

from __future__ import annotations

import ast
import importlib
import types
from typing import TYPE_CHECKING

import pytest

from tests.house.source import imports, module_name, package_files

if TYPE_CHECKING:
    from pathlib import Path

COMPILED = package_files(".pyx")


def offered(path: Path) -> set[str]:
    """The public names of the module compiled from `path`, and those that its classes add to their bases'."""
    module = importlib.import_module(module_name(path))
    taken = {name.rpartition(".")[2] for name in imports(path)}
    names = set()
    for name, value in vars(module).items():
        elsewhere = getattr(value, "__module__", module.__name__) != module.__name__
        if name.startswith("_") or name in taken or elsewhere or isinstance(value, types.ModuleType):
            continue
        names.add(name)
        if isinstance(value, type):
            names |= {f"{name}.{member}" for member in vars(value).keys() - _inherited(value) if member[0] != "_"}
    return names


def declared(path: Path) -> set[str]:
    """The same, as the stub beside `path` says it."""
    module = importlib.import_module(module_name(path))
    names = set()
    for node in ast.parse(path.with_suffix(".pyi").read_text("utf-8")).body:
        for name in _names([node]):
            names.add(name)
            if isinstance(node, ast.ClassDef):
                members = set(_names(node.body)) - _inherited(getattr(module, name, object))
                names |= {f"{name}.{member}" for member in members}
    return names


def _inherited(kind: type) -> set[str]:
    return {name for base in kind.__mro__[1:] for name in vars(base)}


def _names(nodes: list[ast.stmt]) -> list[str]:
    names = []
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


def test_there_are_compiled_modules() -> None:
    assert len(COMPILED) >= 5


@pytest.mark.parametrize("path", COMPILED, ids=module_name)
def test_the_stub_says_what_is_offered(path: Path) -> None:
    assert path.with_suffix(".pyi").exists(), f"{module_name(path)} has no stub"
    assert sorted(offered(path) - declared(path)) == [], "not in the stub"
    assert sorted(declared(path) - offered(path)) == [], "in the stub only"


def test_no_stub_is_left_over() -> None:
    assert [path for path in package_files(".pyi") if not path.with_suffix(".pyx").exists()] == []
