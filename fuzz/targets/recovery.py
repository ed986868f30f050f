"""A start with what is stored (mailboxes/loading.pyx, format.pyx): whatever rows and blocks say, the broker starts and serves.

An input is a list of rows and blocks. Their checksums are right most of the time, since what a checksum finds is soon told. Then a
client asks for everything there is, works on it and removes it, and after a restart the same must be left.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, Final

from fuzz.broker import BEGINNING_MS, Fuzzed
from fuzz.reading import Reading
from fuzz.target import Target
from mq9.mailboxes.format import MARKS_KEY, GroupRow, MailboxRow, Marks, group_key, seal_row
from mq9.native.checksum import checksum
from mq9.store.contract import Table
from mq9.store.memory_engine import MemoryStore
from tests.simulation.clients import Frame

_BLOCK_HEAD: Final = struct.Struct("<IHHIIQQ")
_RECORD: Final = struct.Struct("<IIQQQ")
_ITEM: Final = struct.Struct("<QQBBBH")
_BLOCK_MAGIC: Final = 0x4239514D
_HEADERS: Final = b"NATS/1.0\r\nA: b\r\n"
_ITEMS_MAX: Final = 24
_GROUP: Final = b"g"
NEVER: Final = 2**64 - 1
# A mailbox with this number is always there. Memory goes by the highest number of a mailbox and of a block, of which no broker has
# given out more than it has had, so numbers here have 16 bits.
BOX: Final = 1


class Store(MemoryStore):
    """What is stored, made of an input."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._reading = reading
        self._row(MailboxRow(BOX, b"box", False, b"", 0, BEGINNING_MS, 0))
        kinds = (
            *(self._mailbox, self._group, self._handout, self._handout, self._dead),
            *(self._marks, self._raw, self._block, self._block, self._block),
        )
        for _ in range(_ITEMS_MAX):
            if not reading:
                break
            kinds[reading.below(len(kinds))]()

    def _row(self, row: MailboxRow) -> None:
        self._tables[Table.MAILBOXES][row.key] = row.pack()

    def _time(self) -> int:
        """A moment about now, or any other."""
        reading = self._reading
        return BEGINNING_MS + reading.number(16) - 100 if not reading.flag() else reading.number()

    def _mailbox(self) -> None:
        reading = self._reading
        number, mail_id = reading.number(16), reading.some() if reading.flag() else b"box.%d" % reading.below(4)
        expires = self._time() if reading.flag() else 0
        said = reading.byte()
        public, owned, owner_only = (said >> bit & 3 == 1 for bit in (0, 2, 4))
        desc, ttl_s, created_ms = reading.take(reading.below(8)), reading.number(32), self._time()
        owner = (b"first", b"second", b"", reading.some())[said >> 6] if owned else b""
        row = MailboxRow(number, mail_id, public, desc, ttl_s, created_ms, expires, owner, owner_only)
        self._row(row)
        if owned and reading.flag():  # the size of the name, the name, or what is before them
            body = bytearray(row.pack()[:-4])
            body[-1 - reading.number(16) % len(body)] ^= reading.byte() or 1
            self._tables[Table.MAILBOXES][row.key] = seal_row(row.key, bytes(body[: len(body) - reading.below(4)]))

    def _group(self) -> None:
        reading = self._reading
        name = reading.some() if reading.flag() else _GROUP
        cursors = tuple(reading.number() for _ in range(5))
        row = GroupRow(self._which(), reading.below(4), name, reading.number(), self._time(), cursors)
        self._tables[Table.GROUPS][row.key] = row.pack()

    def _handout(self) -> None:
        reading = self._reading
        body = bytearray([1 if not reading.flag() else reading.byte()])
        for _ in range(reading.below(5)):
            reason = reading.take(reading.below(4)) if reading.flag() else b""
            said = len(reason) if not reading.flag() else reading.number(16)
            due = self._time() if reading.flag() else 0
            state, rank = (
                (reading.below(8), reading.below(5)) if not reading.flag() else (reading.byte(), reading.byte())
            )
            body += _ITEM.pack(reading.number(), due, state, rank, reading.byte(), said) + reason
        key = group_key(self._which(), reading.below(4), reading.number())
        self._tables[Table.GROUPS][key] = seal_row(key, bytes(body))

    def _dead(self) -> None:
        key = self._reading.number(16).to_bytes(8, "big")
        self._tables[Table.DEAD][key] = seal_row(key, self._reading.some())

    def _marks(self) -> None:
        reading = self._reading
        self._tables[Table.META][MARKS_KEY] = Marks(reading.number(), reading.number(16), reading.number(16)).pack()

    def _raw(self) -> None:
        reading = self._reading
        key, value = reading.take(reading.below(24)) or b"k", reading.some()
        self._tables[list(Table)[reading.below(len(Table))]][key] = value if reading.flag() else seal_row(key, value)

    def _which(self) -> int:
        """The number of a mailbox, most often of the one that is there."""
        return self._reading.number(16) if self._reading.flag() else BOX

    def _block(self) -> None:
        reading = self._reading
        records = [self._record() for _ in range(reading.below(6))]
        number = reading.number(16)
        count = len(records) if not reading.flag() else reading.number(32)
        data = bytearray(_BLOCK_HEAD.pack(_BLOCK_MAGIC, 2, 0, 0, count, number, BEGINNING_MS) + b"".join(records))
        if reading.flag():
            data[reading.number(16) % len(data)] ^= reading.byte() or 1
        struct.pack_into("<I", data, 8, checksum(bytes(data[12:])))
        self._blocks[number] = bytes(data)

    def _record(self) -> bytes:
        reading = self._reading
        flags = (0 if reading.flag() else reading.byte()) & (0xFF if reading.flag() else 0x1F)
        fields = b""
        for bit in range(5):
            if flags >> bit & 1:
                fields += self._field(bit)
        headers = (b"", _HEADERS, b"", reading.some())[reading.below(4)]
        rest = fields + headers + reading.take(reading.below(16))
        header_size = len(headers) if not reading.flag() else reading.number(32)
        size = _RECORD.size + len(rest) if not reading.flag() else reading.number(32)
        rank = reading.below(5) if not reading.flag() else reading.byte()
        return (
            _RECORD.pack(size, header_size, reading.number(), self._which() | rank << 48 | flags << 56, self._time())
            + rest
        )

    def _field(self, bit: int) -> bytes:
        """What a flag says is there: when it ends, when it may be seen, its key, tags, dedup id."""
        reading = self._reading
        if bit < 2:
            return struct.pack("<Q", self._time())
        text = reading.take(reading.below(6))
        return struct.pack("<H", len(text) if not reading.flag() else reading.number(16)) + text


class Visit:
    """A client of the broker that has started with all this."""

    def __init__(self, broker: Fuzzed) -> None:
        self._broker = broker
        self._client = broker.connect()

    def ask(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request, once it is there."""
        data = b"" if body is None else json.dumps(body).encode()
        self._client.say(b"PUB %b %b0 %d\r\n%b\r\n" % (subject.encode(), self._client.inbox, len(data), data))
        self._broker.settle()
        for _ in range(100):
            answers = [frame for frame in self._broker.told(self._client) if frame.subject == self._client.inbox + b"0"]
            if answers:
                (answer,) = answers
                return dict(json.loads(answer.payload))
            self._broker.pass_time(10)
        raise AssertionError(f"no answer to {subject}")

    def pages(self) -> list[Any]:
        """All that is in the mailbox."""
        found: list[Any] = []
        after: int | None = 0
        while after is not None:
            answer = self.ask("$mq9.AI.MAILBOX.LIST.box", {"after": after, "limit": 7})
            if "code" in answer:
                return [answer["code"]]
            found += answer["messages"]
            after = answer["next"]
        ids = [item["msg_id"] for item in found]
        assert ids == sorted(set(ids)), ids
        return found

    def work(self) -> None:
        """Receive, lease and settle what there is."""
        client = self._client
        client.say(b"SUB $mq9.AI.MAILBOX.MSG.box.* 5\r\nSUB $mq9.AI.MAILBOX.MSG.box.* g 6\r\nUNSUB 6 1\r\n")
        self._broker.settle()
        _see_that_they_are_whole(self._broker.told(client))
        leased = self.ask("$mq9.AI.MSG.FETCH.box", {"group_name": "g", "config": {"max_wait_ms": 0}, "lease_ms": 50})
        ids = [item["msg_id"] for item in leased.get("messages", [])]
        for number, op in enumerate(("ack", "nack", "dead", "extend")):
            if ids[number::4]:
                self.ask("$mq9.AI.MSG.ACK.box", {"group_name": "g", "msg_ids": ids[number::4], "op": op})
        self.ask("$mq9.AI.MAILBOX.LIST.box", {"dead": "g"})
        self.ask("$mq9.AI.PUBLIC.LIST")
        self.ask("$mq9.AI.MSG.FETCH.box", {"config": {"max_wait_ms": 0}})
        if ids:
            self.ask(f"$mq9.AI.MSG.STATUS.box.{ids[0]}")
            self.ask(f"$mq9.AI.MAILBOX.DELETE.box.{ids[0]}")
        self._broker.pass_time(1_000)

    def live(self) -> None:
        """A new mailbox is as good as ever."""
        created = self.ask("$mq9.AI.MAILBOX.CREATE", {"ttl": 0})
        sent = self.ask(f"$mq9.AI.MAILBOX.MSG.{created['mail_id']}")
        listed = self.ask(f"$mq9.AI.MAILBOX.LIST.{created['mail_id']}")
        assert [item["msg_id"] for item in listed["messages"]] == [sent["msg_id"]]
        assert self.ask(f"$mq9.AI.MAILBOX.REMOVE.{created['mail_id']}") == {"deleted": True}


def _see_that_they_are_whole(told: list[Frame]) -> None:
    for frame in told:
        if frame.kind == b"HMSG" and frame.sid in (b"5", b"6"):
            assert frame.headers[b"mq9-msg-id"].isdigit()


def run(data: bytes) -> None:
    """See Target.run."""
    with Fuzzed(Store(Reading(data))) as broker:
        Visit(broker).live()
        before = Visit(broker).pages()
        broker.restart()
        # Nothing has happened to it, and no time has passed.
        assert Visit(broker).pages() == before
        Visit(broker).work()
        Visit(broker).live()
        broker.restart()
        visit = Visit(broker)
        visit.work()
        visit.ask("$mq9.AI.MAILBOX.REMOVE.box")
        broker.pass_time(200_000)
        visit.live()


def seeds() -> Iterator[bytes]:
    """A row of each kind and blocks, with the numbers that belong together."""
    yield b""
    record = b"\0\0\0\0\1\0\5hello\0\0"
    for kind in range(10):
        yield bytes([kind]) + bytes(30)
        yield (bytes([kind]) + bytes(range(1, 40))) * 3
        yield (bytes([kind]) + record * 4) * 4
        yield (
            bytes([7, 3])
            + b"\0\0\0\1\0\4text\0\0\0\2\0\0\0\7" * 3
            + bytes([5, 0, 0, kind])
            + bytes(20)
            + bytes([1])
            + bytes(40)
        )
    for said in (0b00000100, 0b01010100, 0b11010101):
        # Mailboxes of owners: the number, the name, no expiry, and the rest; then one whose row says it otherwise.
        yield bytes([0, 9, 0, 1, 0, said]) + b"\0\0\0\0\3own"
        yield bytes([0, 9, 0, 1, 0, said]) + b"\0\0\0\0\1\2\1\3" * 2


TARGET: Final = Target("recovery", run, seeds, size_max=1024)
