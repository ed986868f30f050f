"""The header parser (wire/headers.pyx), held against the same thing said in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fuzz.target import Target
from mq9.wire.headers import read_headers


def reference(block: bytes) -> dict[str, list[str]]:
    """The headers of a block, by the form that ADR-4 gives it. Raises ValueError for anything else."""
    lines = block.split(b"\r\n")
    if len(lines) < 3 or lines[-2:] != [b"", b""] or any(b"\n" in line for line in lines):
        raise ValueError("not lines")
    version, *fields = lines[:-2]
    # A status may follow the version; a carriage return right behind it is part of what nobody reads.
    if version[:8] != b"NATS/1.0" or version[8:9] not in (b"", b" ", b"\r"):
        raise ValueError("no version")
    found: dict[str, list[str]] = {}
    for field in fields:
        name, colon, value = field.partition(b":")
        if not colon or not name:
            raise ValueError("no name")
        found.setdefault(name.decode("utf-8", "replace"), []).append(value.strip(b" \t").decode("utf-8", "replace"))
    return found


def run(data: bytes) -> None:
    """See Target.run."""
    try:
        expected: dict[str, list[str]] | None = reference(data)
    except ValueError:
        expected = None
    try:
        found: dict[str, list[str]] | None = read_headers(data)
    except ValueError:
        found = None
    assert found == expected


def seeds() -> Iterator[bytes]:
    """Blocks, good and not so good."""
    yield b"NATS/1.0\r\n\r\n"
    yield b"NATS/1.0 503 No Responders\r\n\r\n"
    yield b"NATS/1.0\r\nA: 1\r\na:2\r\nA:  \t x y \t\r\n\r\n"
    yield b"NATS/1.0\r\nmq9-priority: high\r\nNats-Msg-Id: 7\r\n\r\n"
    yield b"NATS/1.0\r\nA:\r\n\r\n"
    yield b"NATS/1.0\r\n:x\r\n\r\n"
    yield b"NATS/1.0\r\nno colon\r\n\r\n"
    yield b"NATS/1.0\r\nA: 1\n\r\n"
    yield b"NATS/1.0\r\nA: \xff\r\n\r\n"
    yield b"NATS/1.0\r\n\r\nA: 1\r\n\r\n"


TARGET: Final = Target("headers", run, seeds, words=(b"NATS/1.0", b"\r\n", b"\r\n\r\n", b": ", b"A:"), size_max=512)
