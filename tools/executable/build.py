"""Builds the executable `mq9`: one file that runs on a machine of the same system without Python, from a wheel of mq9.

    python -m tools.executable.build dist/mq9-0.1.0-….whl dist/mq9

It is launcher.c, the shared libraries that Python needs besides libc's, and an archive with the wheel, what it depends on, and the standard
library. The interpreter must be one whose libpython is shared, as PyInstaller wants it, too.
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import re
import struct
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HERE: Final = Path(__file__).parent
MAGIC: Final = b"mq9:one1"
ENTRY: Final = struct.Struct("<64sQQ")
TAIL: Final = struct.Struct("<QQ8s")
# What nobody needs who runs mq9: tests, graphics, terminals, installers, and modules that bring libraries of their own.
LEFT_OUT: Final = re.compile(
    r"(?:test|tkinter|idlelib|turtledemo|lib2to3|ensurepip|distutils|pydoc_data|venv|curses|dbm|sqlite3|site-packages|config-[^/]*)/"
    r"|lib-dynload/(?:_test|_ctypes_test|_xx|xx|_tkinter|_curses|_sqlite3|_dbm|_gdbm|readline|ossaudiodev|nis|audioop|spwd|_crypt)"
    r"|(?:turtle|antigravity|this|__phello__[^/]*)\.py$"
    r"|__pycache__/|/bin/"
)
# What every machine has that has a C library.
SYSTEM_LIBRARIES: Final = re.compile(r"(?:ld-linux|linux-vdso|lib(?:c|m|dl|rt|pthread|util|resolv))[.-]")
_LDD: Final = re.compile(r"^\s*(\S+) => (/\S+) ", re.MULTILINE)
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def make(wheel: Path, target: Path) -> None:
    """Build it from a wheel, into the file `target`."""
    with tempfile.TemporaryDirectory() as directory:
        packages = Path(directory) / "packages"
        subprocess.run(  # noqa: S603
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", packages, wheel], check=True
        )
        launcher = compiled(Path(directory))
        members = dict(collected(packages))
        libraries = list(needed(members.values()))
        write(target, launcher, libraries, members)


def compiled(directory: Path) -> bytes:
    """The launcher."""
    program = directory / "launcher"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    include = "-I" + sysconfig.get_path("include")
    source = HERE / "launcher.c"
    subprocess.run([*compiler, "-O2", "-Wall", "-s", include, source, "-o", program, "-ldl"], check=True)  # noqa: S603
    return program.read_bytes()


def collected(packages: Path) -> Iterator[tuple[str, Path]]:
    """Every file that goes into the archive: its name there, and where it is."""
    yield "mq9_entry.py", HERE / "mq9_entry.py"
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*")):
        name = path.relative_to(library).as_posix()
        if path.suffix in (".py", ".so") and LEFT_OUT.match(name) is None:
            yield name.removeprefix("lib-dynload/"), path
    for path in sorted(packages.rglob("*")):
        name = path.relative_to(packages).as_posix()
        if path.is_file() and not name.startswith("bin/") and path.suffix not in (".pyx", ".pxd", ".pyi", ".c", ".h"):
            yield name, path


def needed(files: Iterable[Path]) -> Iterator[Path]:
    """The shared libraries that these files need, each behind those that it needs itself, and libpython last."""
    name = str(sysconfig.get_config_var("INSTSONAME"))
    directory = Path(sysconfig.get_config_var("LIBDIR") or "")
    # Debian keeps it a step further down.
    python = next(
        (file for file in (directory / name, *directory.glob(f"*-linux-gnu*/{name}")) if file.exists()),
        directory / name,
    )
    if not sysconfig.get_config_var("Py_ENABLE_SHARED") or not python.exists():
        raise SystemExit(f"{sys.executable} has no shared libpython, of which an executable could be made")
    found: dict[str, Path] = {}
    for file in [python, *(file for file in files if file.suffix == ".so" or ".so." in file.name)]:
        _add_needed(file, found)
    found.pop(name, None)
    yield from found.values()
    yield python


def _add_needed(file: Path, found: dict[str, Path]) -> None:
    said = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607
    for name, path in _LDD.findall(said):
        if name not in found and SYSTEM_LIBRARIES.match(name) is None:
            _add_needed(Path(path), found)
            found[name] = Path(path)


def write(target: Path, launcher: bytes, libraries: list[Path], members: dict[str, Path]) -> None:
    """Put it together: the launcher, the libraries, and the archive, whose comment is the index that the launcher reads."""
    parts = [launcher]
    entries = []
    for library in libraries:
        data = stripped(library)
        entries.append(ENTRY.pack(library.name.encode(), sum(map(len, parts)), len(data)))
        parts.append(data)
    index = b"".join(entries)
    archive = packed(members, bytes(len(index) + TAIL.size))
    start = sum(map(len, parts)) + len(archive) - len(index) - TAIL.size
    parts += [archive[: -len(index) - TAIL.size], index, TAIL.pack(start, len(entries), MAGIC)]
    target.write_bytes(b"".join(parts))
    target.chmod(0o755)


def packed(members: dict[str, Path], comment: bytes) -> bytes:
    """The archive. Nothing in it is compressed: the module that could unpack it is in there, too."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = comment
        for name, path in members.items():
            data = stripped(path) if path.suffix == ".so" else path.read_bytes()
            if path.suffix == ".py":
                name, data = name + "c", bytecode(name, data)
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
    return file.getvalue()


def stripped(library: Path) -> bytes:
    """A shared library, or a compiled module, without what only a debugger reads."""
    with tempfile.NamedTemporaryFile() as copy:
        subprocess.run(["strip", "--strip-unneeded", "-o", copy.name, library], check=True)  # noqa: S603, S607
        return Path(copy.name).read_bytes()


def bytecode(name: str, source: bytes) -> bytes:
    """A module as Python imports it without its source."""
    code = compile(source, name, "exec", dont_inherit=True)
    # The flag says: there is no source that this might be older than.
    return (
        importlib.util.MAGIC_NUMBER
        + (1).to_bytes(4, "little")
        + importlib.util.source_hash(source)
        + marshal.dumps(code)
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
