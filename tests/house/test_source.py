"""The rules of docs/design.md that a reader of the source would otherwise have to watch over."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

import mq9
from tests.house.source import (
    PACKAGE,
    Definition,
    code_lines,
    definitions,
    files,
    imports,
    module_name,
    package_files,
)

if TYPE_CHECKING:
    from pathlib import Path

FILE_LINES_MAX: Final = 600
FUNCTION_LINES_MAX: Final = 70

# What each room may import of the others. What is not here has no business in the package.
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "version": set(),
    "protocol": set(),
    "native": set(),
    "wire": {"native"},
    "routing": {"native", "wire"},
    "store": {"native"},
    "mailboxes": {"native", "wire", "routing", "store.contract", "protocol"},
    "server": {"native", "wire", "routing", "mailboxes", "store", "protocol", "version"},
    "sdk": {"protocol", "version"},
    "cli": {"sdk", "protocol", "version", "server", "store.contract", "store.backup"},
    "__init__": {"sdk", "protocol", "version", "server.embedded", "server.config"},
    "__main__": {"cli"},
}
# Bytes in, decisions out: time comes in as an argument, and so does chance.
PURE: Final = ("native", "wire", "routing", "mailboxes", "protocol")
IMPURE_MODULES: Final = {
    *("asyncio", "concurrent", "multiprocessing", "select", "selectors", "signal", "subprocess", "threading", "uvloop"),
    *("fcntl", "glob", "io", "lmdb", "mmap", "os", "pathlib", "shutil", "socket", "ssl", "sys", "tempfile", "urllib"),
    *("datetime", "libc.time", "posix", "random", "secrets", "time", "uuid", "libc.stdio"),
}
IMPURE_CALLS: Final = re.compile(r"(?<![\w.])(open|print|input|rand|srand|random)\(")
# Called by asyncio, and explained by its documentation.
ASYNCIO_CALLBACKS: Final = {
    *("connection_made", "connection_lost", "eof_received", "data_received"),
    *("pause_writing", "resume_writing", "get_buffer", "buffer_updated"),
}


def room(path: Path) -> str:
    """The part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(path.suffix)


def shown(path: Path) -> str:
    """How a file is called in a test's name."""
    return str(path.relative_to(PACKAGE.parents[1]))


@pytest.mark.parametrize("path", package_files(".py", ".pyx", ".pxd", ".pyi"), ids=shown)
def test_imports_point_inward(path: Path) -> None:
    may = MAY_IMPORT[room(path)] | {room(path)}
    wrong = {
        name
        for name in imports(path)
        if name.startswith("mq9.") and not any(f"{name}.".startswith(f"mq9.{allowed}.") for allowed in may)
    }
    if room(path) == "cli":
        # The commands are users of the package: what it offers to everybody, they may import as everybody does.
        wrong -= {name for name in wrong if name.removeprefix("mq9.") in mq9.__all__}
    assert not wrong, f"{module_name(path)} imports {sorted(wrong)}"


def test_every_room_is_there() -> None:
    assert {room(path) for path in package_files(".py", ".pyx")} == MAY_IMPORT.keys()


@pytest.mark.parametrize(
    "path", [path for path in package_files(".py", ".pyx", ".pxd") if room(path) in PURE], ids=shown
)
def test_no_clock_socket_file_or_chance(path: Path) -> None:
    wrong = {
        name for name in imports(path) for module in IMPURE_MODULES if name == module or name.startswith(f"{module}.")
    }
    assert not wrong, f"{module_name(path)} imports {sorted(wrong)}"
    code = "\n".join(line.partition("#")[0] for line in path.read_text("utf-8").splitlines())
    assert IMPURE_CALLS.findall(code) == []


def test_importing_the_package_does_not_load_the_server() -> None:
    use = "mq9.Mailbox, mq9.AsyncMailbox, mq9.Message"
    script = f"import sys, mq9; {use}; print(*sorted(name for name in sys.modules if name.startswith('mq9.')))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "mq9.sdk" in loaded
    for inside in ("server", "store", "mailboxes", "routing", "wire", "native", "cli"):
        assert not [name for name in loaded if name == f"mq9.{inside}" or name.startswith(f"mq9.{inside}.")]


@pytest.mark.parametrize("path", files(".py", ".pyx", ".pxd", ".pyi"), ids=shown)
def test_nothing_is_too_long(path: Path) -> None:
    assert code_lines(path) <= FILE_LINES_MAX
    long = [
        f"{found}: {found.lines}"
        for found in definitions(path)
        if not found.is_class and found.lines > FUNCTION_LINES_MAX
    ]
    assert not long


def test_every_file_says_what_it_is() -> None:
    # A .pxd is the header of the .pyx of its name, which says it for both, unless it stands alone.
    alone = [path for path in package_files(".pxd") if not path.with_suffix(".pyx").exists()]
    silent = [
        shown(path)
        for path in [*files(".py"), *package_files(".pyx"), *alone]
        if path.stat().st_size and re.match(r'(#!.*\n)?("""|# )', path.read_text("utf-8")) is None
    ]
    assert not silent


def test_everything_public_is_explained() -> None:
    every = [found for path in package_files(".py", ".pyx") for found in definitions(path)]
    explained = {found.name.rpartition(".")[2] for found in every if found.documented} | ASYNCIO_CALLBACKS

    def needs_words(found: Definition) -> bool:
        # A method that carries out what another class explains needs no second explanation.
        inherited = "." in found.name and found.name.rpartition(".")[2] in explained
        return found.public and not found.documented and not inherited

    assert [str(found) for found in every if needs_words(found)] == []
