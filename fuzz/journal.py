"""Makes segments of a journal out of an input: frames that are right, wrong in what they say of themselves, and torn.

A checksum finds what chance has damaged. What is left is what no checksum tells: so here most checksums are right, whatever stands
under them, as a disk never shows it but a bug, or somebody who knows how, may.
"""

from __future__ import annotations

import struct
from typing import Final

from fuzz.reading import Reading
from mq9.native.checksum import checksum
from mq9.store.contract import Commit, Table
from mq9.store.frame import Frame

SALT: Final = 0x1122334455667788
SEGMENT_MAX: Final = 64 * 1024
_HEAD: Final = struct.Struct("<QIIQQIIIIIIII")
_ENTRY: Final = struct.Struct("<QI")
_FRAMES_MAX: Final = 12
_TABLES: Final = tuple(Table)


class Writing:
    """A journal that is being made.

    Arguments:
        reading: what it is made of.
        sequence: of its first commit.
    """

    def __init__(self, reading: Reading, sequence: int = 1) -> None:
        self._reading = reading
        self.sequence = sequence
        self.block = 0

    def segment(self, number: int) -> bytes:
        """The bytes of the next segment."""
        reading = self._reading
        data = bytearray()
        for _ in range(reading.below(_FRAMES_MAX)):
            if not reading:
                break
            kind = reading.below(8)
            if kind < 3:
                data += self._sound(number)
            elif kind < 6:
                data += self._odd(number)
            elif kind == 6:
                data += reading.some()
                data += bytes(-len(data) % 8)
            elif data:
                at = reading.number(16) % len(data)
                data[at] ^= reading.byte() or 1
        data += bytes(reading.number(8))
        return bytes(data[:SEGMENT_MAX])

    def _sound(self, segment: int) -> bytes:
        """A frame as the journal writes it."""
        reading = self._reading
        blocks: list[tuple[int, memoryview | bytes]] = []
        for _ in range(reading.below(4)):
            self.block += 1 + reading.below(3)
            blocks.append((self.block, reading.some() or b"block"))
        dropped = [reading.number(16) for _ in range(reading.below(4))]
        rows = [
            (
                _TABLES[reading.below(len(_TABLES))],
                reading.take(1 + reading.below(20)),
                None if reading.flag() else reading.some(),
            )
            for _ in range(reading.below(4))
        ]
        frame = Frame(SALT, self.sequence, Commit(blocks, dropped, rows))
        self.sequence += 1
        frame.address(segment)
        return frame.tobytes()

    def _odd(self, segment: int) -> bytes:
        """A frame with sound checksums, of which the rest is as it comes."""
        reading = self._reading
        blocks = [(reading.number(), reading.number(32)) for _ in range(reading.below(4))]
        dropped = [reading.number() for _ in range(reading.below(4))]
        rows, data = reading.some(), reading.some()
        said = [len(rows), len(data), len(blocks), len(dropped), reading.number(32)]
        if reading.flag():
            said[reading.below(5)] = reading.number(32)
        entries = b"".join(_ENTRY.pack(*entry) for entry in blocks) + struct.pack(f"<{len(dropped)}Q", *dropped)
        sequence = reading.number() if reading.flag() else self.sequence
        self.sequence += 1
        rows_size, data_size, block_count, dropped_count, row_count = said
        head = bytearray(
            _HEAD.pack(
                SALT,
                0,
                _HEAD.size + 12 * block_count + 8 * dropped_count & 0xFFFFFFFF,
                sequence,
                segment,
                rows_size,
                checksum(rows),
                data_size,
                checksum(data),
                block_count,
                dropped_count,
                row_count,
                0,
            )
            + entries
        )
        struct.pack_into("<I", head, 8, checksum(bytes(head[12:])))
        frame = bytes(head) + rows + data
        return frame + bytes(-len(frame) % 8)
