"""A start with a journal of several segments (store/starting.py), some of which the tables know: what is damaged costs only itself.

An input is what fuzz/journal.py makes segments of, and between them what the tables say of each. Files and tables are real ones.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Final

from fuzz.journal import SALT, Writing
from fuzz.reading import Reading
from fuzz.target import Target
from mq9.store.contract import StoreFailedError, Table
from mq9.store.frame import Index
from mq9.store.segments import DIRECTORY, Files, Known
from mq9.store.segments import Reader as SegmentReader
from mq9.store.starting import NEVER, find, read_index
from mq9.store.tables import Checkpoint, Tables

_SEGMENTS_MAX: Final = 4
_LOG: Final = logging.getLogger("mq9")


@cache
def _place() -> tuple[Path, Tables]:
    """A folder, which `python -m fuzz` has in memory, and the tables there."""
    folder = Path(tempfile.mkdtemp(prefix="mq9-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tables = Tables(folder, 1 << 24)
    tables.open()
    atexit.register(tables.close)
    return folder, tables


def run(data: bytes) -> None:
    """See Target.run."""
    folder, tables = _place()
    shutil.rmtree(folder / DIRECTORY, ignore_errors=True)
    (folder / DIRECTORY).mkdir()
    reading = Reading(data)
    writing = Writing(reading)
    known: dict[int, Known] = {}
    number = 0
    for _ in range(1 + reading.below(_SEGMENTS_MAX)):
        number += 1 + reading.below(2)
        segment = writing.segment(number)
        if not reading.flag():
            (folder / DIRECTORY / f"{number:012}.segment").write_bytes(segment)
        if reading.flag():
            known[number] = _known(reading, number, segment)
        if not reading.flag():
            writing.sequence += reading.below(3)
    checkpoint = Checkpoint(SALT, reading.number(16), reading.number(8))
    gone = list(set(tables.segments()) - set(known))
    tables.write(checkpoint, {}, known, gone)
    _start(Files(folder), tables, checkpoint)


def _known(reading: Reading, number: int, segment: bytes) -> Known:
    """What the tables say of a segment: what is so, or something else."""
    index = Index(number, 1)
    index.read(segment, SALT, NEVER, NEVER, last=False)
    index.damage.clear()
    for block in range(reading.below(4)):
        index.drop(block)
    true = Known.of(index)
    if not reading.flag():
        return true
    *numbers, _ = astuple(true)
    first, last, end, first_number, last_number, count = (
        reading.number() if reading.flag() else value for value in numbers
    )
    return Known(first, last, end, first_number, last_number, count, reading.some())


def _start(files: Files, tables: Tables, checkpoint: Checkpoint) -> None:
    """Start, and look at every block that is said to be there."""
    reader = SegmentReader(files)
    disabled, _LOG.disabled = _LOG.disabled, True
    try:
        found = find(files, tables.segments(), checkpoint)
        for segment in found.segments:
            if segment.index is None and segment.known is not None:
                segment.index = read_index(reader, segment.number, segment.known, checkpoint.salt)
            _look(segment.contents, segment.size)
            segment.now_known()
    except StoreFailedError:
        return
    finally:
        _LOG.disabled = disabled
        reader.close_all()
    assert found.sequence >= checkpoint.sequence
    assert [segment.number for segment in found.segments] == sorted({segment.number for segment in found.segments})
    assert all(isinstance(table, Table) for table, _ in found.rows)


def _look(index: Index, size: int) -> None:
    at: int | None = 0
    while at is not None:
        places, at = index.blocks(at, 1 << 20)
        for number, offset, block_size in places:
            assert block_size == 0 or offset + block_size <= size, (number, offset, block_size, size)


def seeds() -> Iterator[bytes]:
    """Journals of one segment and of several."""
    frames = b"\4" + b"\0\2\1\5hello\1\5again\1\7\1\1\2key\0\5value" * 4 + b"\0"
    odd = b"\4" + b"\3\2\1\5\2\6\1\3\20\0\0\2\0\3\0\0\0key row\13hello again\1\1" * 4 + b"\0"
    for shape in (b"\0", b"\1", b"\3"):
        yield shape + (b"\0" + frames + b"\0\0\0\0") * 4
        yield shape + (b"\0" + frames + b"\0\1\0\0\0\0") * 4 + b"\5\1"
        yield shape + (b"\1" + odd + b"\0\1\2\1\3\1\1\1\0\20" + bytes(16) + b"\0\0") * 4 + b"\1\1"


TARGET: Final = Target("journal", run, seeds, size_max=2048)
