"""Inputs that are kept: a text file for each target, a line for each input, its bytes as Python writes them.

corpus/ has the smallest inputs that together go everywhere; failed/ has those that once went wrong, with what that was in a comment
before each. `make test` runs all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
KEPT: Final = FOLDER / "corpus"
FAILED: Final = FOLDER / "failed"
_WRITTEN: Final = {
    byte: chr(byte) if 32 <= byte < 127 and byte != ord("\\") else f"\\x{byte:02x}" for byte in range(256)
} | {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


def write_line(data: bytes) -> str:
    """An input as a line, in quotes, so that blanks at its end are seen."""
    return '"' + "".join(map(_WRITTEN.__getitem__, data)) + '"'


def read_line(line: str) -> bytes:
    """The input that a line says."""
    return line[1:-1].encode("ascii").decode("unicode_escape").encode("latin-1")


def read(folder: Path, target: str) -> Iterator[bytes]:
    """The inputs of a target that are kept in this folder."""
    path = folder / f"{target}.txt"
    if path.exists():
        for line in path.read_text("ascii").splitlines():
            if line and not line.startswith("# "):
                yield read_line(line)


def write(folder: Path, target: str, inputs: Iterable[bytes]) -> None:
    """Keep these inputs of a target, and no others."""
    lines = [write_line(data) for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    folder.mkdir(exist_ok=True)
    (folder / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines), "ascii")


def add_failed(target: str, data: bytes, why: str) -> None:
    """Keep an input that went wrong."""
    FAILED.mkdir(exist_ok=True)
    with (FAILED / f"{target}.txt").open("a", encoding="ascii") as file:
        file.write(f"# {why}\n{write_line(data)}\n")
