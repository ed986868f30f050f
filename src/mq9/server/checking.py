"""What `mq9 check` does: looks at everything that a data directory, or a backup, holds, and says what is damaged. It changes nothing.

Each damage is one sentence, with the numbers of what is damaged; no mail_id and nothing of a message is in any.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mq9.mailboxes.format import (
    MARKS_KEY,
    DamagedError,
    GroupRow,
    HandoutRow,
    MailboxRow,
    Marks,
    check_block,
    open_row,
    record_places,
)
from mq9.server.clock import CLOCK_KEY, SteadyClock
from mq9.store.contract import StoreFailedError, Table
from mq9.store.inspection import Inspection

_NUMBER_BYTES = 8
_GROUP_KEY_BYTES = 20


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        damage: a sentence for each damage.
        segments, blocks, records, rows: how many were looked at.
    """

    damage: list[str] = field(default_factory=list)
    segments: int = 0
    blocks: int = 0
    records: int = 0
    rows: int = 0


def check(directory: Path) -> Report:
    """Look at a data directory that no broker has open, or at a backup.

    Raises StoreFormatError for what is neither, StoreLockedError when a broker has it open.
    """
    inspection = Inspection(directory)
    report = Report()
    try:
        with inspection:
            _Check(inspection, report).run()
    except StoreFailedError as error:
        if str(error) not in inspection.damage:
            inspection.damage.append(str(error))
    except OSError as error:
        inspection.damage.append(f"{error.filename or directory} cannot be read: {error.strerror}")
    report.segments = inspection.segments
    report.damage = inspection.damage + report.damage
    return report


class _Check:
    """A check under way."""

    def __init__(self, inspection: Inspection, report: Report) -> None:
        self._inspection = inspection
        self._report = report
        self._now_ms = time.time_ns() // 1_000_000

    def run(self) -> None:
        marks = self._marks()
        self._look_at_groups(self._living_mailboxes())
        dead = self._dead()
        for number, data in self._inspection.blocks():
            self._report.blocks += 1
            self._look_at_block(number, data, dead.get(number))
        dropped_max = self._inspection.dropped_max
        if dropped_max >= 0 and (marks is None or marks.block <= dropped_max):
            self._say("table meta does not say which numbers are to be given out next")

    def _look_at_block(self, number: int, data: bytes, dead: bytes | None) -> None:
        try:
            self._report.records += check_block(data, number)
            places = record_places(data)
        except DamagedError as error:
            self._say(f"block {number} {error}")
            return
        if dead is not None and not _set_bits(dead) <= places:
            self._say(f"row {number} of table {Table.DEAD.value} marks what is not in block {number}")

    def _marks(self) -> Marks | None:
        found = None
        for key, value in self._rows(Table.META):
            try:
                if key == MARKS_KEY:
                    found = Marks.unpack(value)
                elif key == CLOCK_KEY:
                    SteadyClock().take_up(value)
            except DamagedError as error:
                self._say(f"row {key.decode()} of table {Table.META.value} {error}")
        return found

    def _living_mailboxes(self) -> set[int]:
        """The numbers of the mailboxes that have not expired; what those have had may be removed already."""
        living = set()
        for key, value in self._rows(Table.MAILBOXES):
            try:
                row = MailboxRow.unpack(key, value)
            except DamagedError as error:
                self._say(f"row {int.from_bytes(key)} of table {Table.MAILBOXES.value} {error}")
                continue
            if not row.expires_ms or row.expires_ms > self._now_ms:
                living.add(row.number)
        return living

    def _look_at_groups(self, living: set[int]) -> None:
        group: bytes | None = None
        for key, value in self._rows(Table.GROUPS):
            if len(key) != _GROUP_KEY_BYTES:
                self._say(f"a row of table {Table.GROUPS.value} has a key of {len(key)} bytes")
                continue
            mailbox, number, handout = (int.from_bytes(part) for part in (key[:8], key[8:12], key[12:]))
            which = f"row {mailbox}.{number}.{handout} of table {Table.GROUPS.value}"
            try:
                if handout == 0:
                    group = key[:12]
                    GroupRow.unpack(key, value)
                else:
                    HandoutRow.unpack(key, value)
            except DamagedError as error:
                self._say(f"{which} {error}")
            if group != key[:12] and mailbox in living:
                self._say(f"{which} belongs to a group that is not there")

    def _dead(self) -> dict[int, bytes]:
        found = {}
        for key, value in self._rows(Table.DEAD):
            try:
                if len(key) != _NUMBER_BYTES:
                    raise DamagedError("has a wrong key")
                found[int.from_bytes(key)] = open_row(key, value)
            except DamagedError as error:
                self._say(f"row {int.from_bytes(key)} of table {Table.DEAD.value} {error}")
        return found

    def _rows(self, table: Table) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._inspection.rows(table):
            self._report.rows += 1
            yield key, value

    def _say(self, sentence: str) -> None:
        self._report.damage.append(sentence)


def _set_bits(bitmap: bytes) -> set[int]:
    return {at * 8 + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1}
