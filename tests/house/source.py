"""Reads the project's own source: which files there are, what they import, and how long what is in them is.

Python is read as a syntax tree; Cython, which Python cannot parse, by its lines and their indentation.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "src" / "mq9"
# Made by tools, or brought from elsewhere.
_NOT_OURS: Final = {"build", "dist", "mq9-data", "__pycache__", "node_modules"}
_CODE_SUFFIXES: Final = {".py", ".pyi", ".pyx", ".pxd"}
_TEXT_SUFFIXES: Final = _CODE_SUFFIXES | {".c", ".md", ".toml", ".txt", ".sh", ".cfg", ".yml", ".yaml", ".mod", ".go"}
_TEXT_NAMES: Final = {"Makefile", "LICENSE", "run", ".gitignore", "Dockerfile"}
_IMPORT = re.compile(r"\s*(?:from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|[^#\n]+)|c?import\s+([^#\n(]+))")
_DEFINITION = re.compile(r"(?P<indent>\s*)(?:async\s+)?(?P<kind>def|cdef class|class|cpdef|cdef)\s+(?P<rest>.*)")
_NAME = re.compile(r"(\w+)\s*\(")


@dataclass(frozen=True)
class Definition:
    """A function or class: its name behind those of the classes around it, where it is, and whether it is explained."""

    path: Path
    name: str
    is_class: bool
    first_line: int
    last_line: int
    documented: bool

    @property
    def lines(self) -> int:
        """How many lines it has, from its first to its last."""
        return self.last_line - self.first_line + 1

    @property
    def public(self) -> bool:
        """Whether none of its names begins with an underscore."""
        return not any(part.startswith("_") for part in self.name.split("."))

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.first_line} {self.name}"


def files(*suffixes: str) -> list[Path]:
    """Every file of the project with one of `suffixes`, what tools have made left out."""
    return sorted(path for path in _walk(ROOT) if path.suffix in suffixes)


def texts() -> list[Path]:
    """Every file of the project that people read."""
    return sorted(path for path in _walk(ROOT) if path.suffix in _TEXT_SUFFIXES or path.name in _TEXT_NAMES)


def package_files(*suffixes: str) -> list[Path]:
    """The files of the package itself with one of `suffixes`."""
    return [path for path in files(*suffixes) if path.is_relative_to(PACKAGE)]


def module_name(path: Path) -> str:
    """The dotted name by which a file of the package is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """The dotted names that a file imports or cimports: of modules, and of what is taken from them."""
    return set(_python_imports(path) if path.suffix in {".py", ".pyi"} else _cython_imports(path))


def code_lines(path: Path) -> int:
    """How many lines of a file are code: not blank, no comment and no docstring."""
    lines = path.read_text("utf-8").splitlines()
    skipped = set(_python_docstrings(path) if path.suffix in {".py", ".pyi"} else _cython_docstrings(lines))
    return sum(
        1
        for number, line in enumerate(lines, 1)
        if number not in skipped and line.strip() and not line.lstrip().startswith("#")
    )


def definitions(path: Path) -> list[Definition]:
    """The functions and classes of a file."""
    return list(_python_definitions(path) if path.suffix in {".py", ".pyi"} else _cython_definitions(path))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            hidden = path.name.startswith(".") and path.name != ".ci"
            if path.name not in _NOT_OURS and not hidden and path.suffix != ".egg-info":
                yield from _walk(path)
        else:
            yield path


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def _python_imports(path: Path) -> Iterator[str]:
    package = module_name(path).split(".") if path.is_relative_to(PACKAGE) else []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + (path.name == "__init__.py")] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _cython_imports(path: Path) -> Iterator[str]:
    for base, taken, plain in _IMPORT.findall(path.read_text("utf-8")):
        if base:
            yield base
            yield from (f"{base}.{name.split()[0]}" for name in taken.strip("()\n ").split(",") if name.strip())
        else:
            yield from (name.split()[0] for name in plain.split(",") if name.strip())


def _python_docstrings(path: Path) -> Iterator[int]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            first = node.body[0]
            yield from range(first.lineno, (first.end_lineno or first.lineno) + 1)


def _cython_docstrings(lines: list[str]) -> Iterator[int]:
    inside = False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        opens = not inside and text.startswith('"""')
        if inside or opens:
            yield number
            closes = text.endswith('"""') and (inside or len(text) > 3)
            inside = not closes


def _python_definitions(path: Path) -> Iterator[Definition]:
    def within(node: ast.AST, names: tuple[str, ...]) -> Iterator[Definition]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = (*names, child.name)
                yield Definition(
                    path,
                    ".".join(inner),
                    isinstance(child, ast.ClassDef),
                    child.lineno,
                    child.end_lineno or child.lineno,
                    ast.get_docstring(child) is not None,
                )
                # What is inside a function is nobody else's.
                yield from within(child, inner if isinstance(child, ast.ClassDef) else (*inner, "_"))
            else:
                yield from within(child, names)

    return within(_tree(path), ())


def _cython_definitions(path: Path) -> Iterator[Definition]:
    lines = path.read_text("utf-8").splitlines()
    docstrings = set(_cython_docstrings(lines))
    around: list[tuple[int, str]] = []
    for index, line in enumerate(lines):
        found = _DEFINITION.fullmatch(line)
        if found is None or index + 1 in docstrings:
            continue
        head_end = _head_end(lines, index)
        is_class = found["kind"].endswith("class")
        name = re.match(r"\w+", found["rest"]) if is_class else _NAME.search(found["rest"])
        if head_end is None or name is None:
            continue
        indent = len(found["indent"])
        while around and around[-1][0] >= indent:
            around.pop()
        own = name[0] if is_class else name[1]
        names = ".".join([outer for _, outer in around] + [own])
        around.append((indent, own))
        last = _last_line(lines, head_end, indent)
        documented = any(number in docstrings for number in range(head_end + 2, _first_statement(lines, head_end) + 2))
        yield Definition(path, names, is_class, index + 1, last + 1, documented)


def _head_end(lines: list[str], index: int) -> int | None:
    """The line in which the head of a definition ends with its colon; None when it is no definition but a variable."""
    depth = 0
    for at in range(index, len(lines)):
        text = lines[at].partition("#")[0].rstrip()
        depth += text.count("(") + text.count("[") - text.count(")") - text.count("]")
        if depth == 0:
            return at if text.endswith(":") else None
    return None


def _first_statement(lines: list[str], head_end: int) -> int:
    for at in range(head_end + 1, len(lines)):
        if lines[at].strip() and not lines[at].lstrip().startswith("#"):
            return at
    return head_end


def _last_line(lines: list[str], head_end: int, indent: int) -> int:
    last = head_end
    for at in range(head_end + 1, len(lines)):
        text = lines[at]
        if text.strip() and not text.lstrip().startswith("#"):
            if len(text) - len(text.lstrip()) <= indent:
                break
            last = at
    return last
