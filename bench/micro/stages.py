"""Whole stretches of a message's path, from bytes that were read to bytes that are to be written, without a socket or a store.

A session is given a transport that takes everything and keeps nothing, and a loop that does what it is told when it is told; all
else is the broker's own.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from mq9.mailboxes import operations
from mq9.mailboxes.leased import leased_item
from mq9.mailboxes.loading import Loading
from mq9.mailboxes.office import PostOffice
from mq9.mailboxes.reading import read_message
from mq9.mailboxes.settling import settle
from mq9.native.checksum import checksum
from mq9.protocol import AckRequest, CreateRequest, ProtocolError
from mq9.server.access import Access
from mq9.server.config import Config
from mq9.server.mail import MailHub, MailSession
from mq9.server.users import Users
from mq9.store.contract import Commit
from mq9.store.frame import Frame, Index

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from mq9.mailboxes.batch import Batch
    from mq9.mailboxes.mailbox import Mailbox

NOW_MS: Final = 1_800_000_000_000
PAYLOAD: Final = bytes(range(64)) * 2
MAIL_ID: Final = "m-abcdefghijklmnopqrstuvwxyz"
SUBJECT: Final = b"$mq9.AI.MAILBOX.MSG." + MAIL_ID.encode()
HEADERS: Final = (
    b"NATS/1.0\r\ncontent-type: application/json\r\nmq9-priority: high\r\ntraceparent: 00-0af7651916cd43dd-01\r\n\r\n"
)
_ALL_PRIORITIES: Final = 31
_BATCH: Final = 64
_REPLY: Final = b"_INBOX.one.00000001"
_LEASE_MS: Final = 30_000


class _Loop:
    """Does in `run` what was asked for, in its order."""

    def __init__(self) -> None:
        self._soon: deque[Callable[[], object]] = deque()

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._soon.append(callback)

    def time(self) -> float:
        return 0.0

    def run(self) -> None:
        while self._soon:
            self._soon.popleft()()


class _Transport:
    """Takes everything at once."""

    def __init__(self) -> None:
        self.taken = 0

    def get_extra_info(self, name: str) -> Any:
        return None

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.taken += len(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class _Api:
    """Nothing is asked of it here."""

    def left(self, session: MailSession) -> None:
        pass


class Broker:
    """Post office and sessions, with one mailbox."""

    def __init__(self) -> None:
        self.loop = _Loop()
        self.office = PostOffice(NOW_MS, lambda: None, lambda event, mailbox: None, lambda: None)
        self.batches: list[Batch] = []
        info: dict[str, Any] = {"max_payload": 1 << 20}
        config = Config(memory=True)
        loop = cast("asyncio.AbstractEventLoop", self.loop)  # it is asked for no more than _Loop has
        self.hub = MailHub(
            loop,
            config,
            info,
            Access(loop, Users(config, self.office.owner_of), config, self.office),
            self.office,
            _Api(),  # type: ignore[arg-type]
            lambda: NOW_MS,
            lambda: None,
            lambda: None,
        )
        answers: list[Any] = []
        operations.create(self.office, CreateRequest(), MAIL_ID, 86_400, NOW_MS, answers.append)
        self.commit()
        assert answers, "no mailbox was created"

    @property
    def mailbox(self) -> Mailbox:
        """The mailbox."""
        found = self.office.get(MAIL_ID.encode(), NOW_MS)
        assert found is not None
        return found

    def commit(self) -> None:
        """Seal what was asked for and settle it, as if a store had it by now."""
        while (batch := self.office.seal(NOW_MS)) is not None:
            self.batches.append(batch)
            self.office.settle(batch, NOW_MS)
        self.loop.run()

    def client(self, *frames: bytes) -> tuple[MailSession, _Transport]:
        """A client that has said CONNECT, and `frames`."""
        session, transport = MailSession(self.hub), _Transport()
        session.connection_made(transport)  # type: ignore[arg-type] # it is asked for no more than this
        feed(session, b'CONNECT {"headers":true,"no_responders":true}\r\n' + b"".join(frames))
        self.loop.run()
        return session, transport

    def fill(self, n: int) -> None:
        """Store `n` messages."""
        session, _ = self.client()
        feed(session, _publish(SUBJECT) * n)
        self.commit()
        assert self.mailbox.count == n


def feed(session: MailSession, data: bytes) -> None:
    """Give a session bytes as if they had been read from its socket."""
    view = memoryview(data)
    while view:
        room = session.get_buffer(-1)
        size = min(len(room), len(view))
        room[:size] = view[:size]
        session.buffer_updated(size)
        view = view[size:]


def _publish(subject: bytes, reply: bytes = b"", headers: bytes = b"") -> bytes:
    """A PUB or HPUB frame with PAYLOAD."""
    words = [subject, *([reply] if reply else [])]
    if headers:
        sizes = b"%d %d" % (len(headers), len(headers) + len(PAYLOAD))
        return b"HPUB " + b" ".join([*words, sizes]) + b"\r\n" + headers + PAYLOAD + b"\r\n"
    return b"PUB " + b" ".join([*words, b"%d" % len(PAYLOAD)]) + b"\r\n" + PAYLOAD + b"\r\n"


def _cutting(data: bytes, size: int) -> list[bytes]:
    """Cut `data` into pieces, as reads bring it."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def _sends(broker: Broker, frames: bytes) -> Callable[[], int]:
    """Frames of sends, answered on _REPLY, to a broker that has no message yet."""
    session, transport = broker.client(b"SUB _INBOX.one.* 1\r\n")
    reads = _cutting(frames, 262_144)
    before = transport.taken

    def run() -> int:
        for read in reads:
            feed(session, read)
            broker.commit()
        answered = (transport.taken - before) // len(b"MSG _INBOX.one.00000001 1 10\r\n")
        return min(broker.office.messages, answered)

    return run


def send(n: int) -> Callable[[], int]:
    """Sends that were read: parsed, appended to blocks, sealed, settled, answered."""
    return _sends(Broker(), _publish(SUBJECT, _REPLY) * n)


def send_among(n: int) -> Callable[[], int]:
    """A send to each of `n` mailboxes in no order, so that nothing that it looks at was looked at just now."""
    broker = Broker()
    mail_ids = [f"m-{number * 2_654_435_761:026d}" for number in range(n)]
    for mail_id in mail_ids:
        operations.create(broker.office, CreateRequest(), mail_id, 86_400, NOW_MS, lambda _: None)
    broker.commit()
    broker.batches.clear()
    random.Random(1).shuffle(mail_ids)
    subject = SUBJECT.removesuffix(MAIL_ID.encode())
    return _sends(broker, b"".join(_publish(subject + mail_id.encode(), _REPLY) for mail_id in mail_ids))


def send_with_headers(n: int) -> Callable[[], int]:
    """The same with a header block."""
    return _sends(Broker(), _publish(SUBJECT, _REPLY, HEADERS) * n)


def deliver(n: int) -> Callable[[], int]:
    """Messages that are there, given to a receiver who comes."""
    broker = Broker()
    broker.fill(n)
    session, transport = broker.client()

    def run() -> int:
        before = broker.hub.mail_out
        feed(session, b"SUB " + SUBJECT + b".* 1\r\n")
        while broker.hub.mail_out - before < n:
            broker.hub.run()
            broker.loop.run()
        assert transport.taken > n * len(PAYLOAD)
        # A mailbox is not looked at by the garbage collector: with a receiver it would stay, and all that it knows.
        session.connection_lost(None)
        return broker.hub.mail_out - before

    return run


def core(n: int) -> Callable[[], int]:
    """Messages of core NATS, from one client's frames to another's output."""
    broker = Broker()
    publisher, _ = broker.client()
    _, transport = broker.client(b"SUB news.* 1\r\n")
    frames = _cutting(_publish(b"news.today") * n, 262_144)
    delivered = len(b"MSG news.today 1 128\r\n") + len(PAYLOAD) + 2

    def run() -> int:
        before = transport.taken
        for read in frames:
            feed(publisher, read)
            broker.loop.run()
        return (transport.taken - before) // delivered

    return run


def work(n: int) -> Callable[[], int]:
    """Messages leased in batches, written for the reply, acked, and the rows of all that."""
    broker = Broker()
    broker.fill(n)
    blocks = {block.number: block for batch in broker.batches for block in batch.blocks}
    group = broker.office.groups.create(broker.mailbox, b"workers", 1)

    def run() -> int:
        done = 0
        while (handout := group.lease(_BATCH, 1 << 20, _LEASE_MS, 1, NOW_MS)) is not None:
            broker.commit()
            ids = []
            for msg_id, attempts in handout.leased(1):
                where = broker.mailbox.where(msg_id, NOW_MS)
                assert where is not None
                assert leased_item(blocks[where[0]], where[1], attempts)
                ids.append(msg_id)
            refused: list[tuple[int, ProtocolError]] = settle(
                group, AckRequest(group="workers", msg_ids=tuple(ids)), 1, NOW_MS, lambda client: True
            )
            assert not refused
            broker.commit()
            done += len(ids)
        return done

    return run


def fetch(n: int) -> Callable[[], int]:
    """Messages found page by page, and read as Python objects."""
    broker = Broker()
    broker.fill(n)
    blocks = {block.number: block for batch in broker.batches for block in batch.blocks}

    def run() -> int:
        after = seen = 0
        while page := broker.mailbox.page(after, _ALL_PRIORITIES, 100, NOW_MS):
            seen += sum(read_message(blocks[block], offset).payload == PAYLOAD for _, block, offset, _, _ in page)
            after = page[-1][0]
        return seen

    return run


def load(n: int) -> Callable[[], int]:
    """Stored blocks become index entries, as when a broker starts."""
    stored = Broker()
    stored.fill(n)
    rows = [row for batch in stored.batches for row in batch.rows if row[2] is not None]
    blocks = [(block.number, bytes(block)) for batch in stored.batches for block in batch.blocks]
    office = PostOffice(NOW_MS, lambda: None, lambda event, mailbox: None, lambda: None)
    loading = Loading(office)
    for table, key, value in rows:
        if table.value == "mailboxes" and value is not None:
            loading.load_mailbox(key, value, NOW_MS)

    def run() -> int:
        for number, data in blocks:
            loading.load_block(number, data, NOW_MS)
        loading.finish_loading(set(), NOW_MS)
        return office.messages

    return run


def frame(n: int) -> Callable[[], int]:
    """Messages of committed batches, put into the frames of a journal, as bytes."""
    stored = Broker()
    session, _ = stored.client()
    for read in _cutting(_publish(SUBJECT) * n, 262_144):
        feed(session, read)
        stored.commit()
    commits = [
        Commit([(block.number, memoryview(block)) for block in batch.blocks], batch.dropped, batch.rows)
        for batch in stored.batches
    ]
    messages = sum(batch.count for batch in stored.batches)

    def run() -> int:
        index = Index(1, 1)
        for sequence, commit in enumerate(commits, 1):
            framed = Frame(1 << 60, sequence, commit)
            framed.address(1)
            assert len(framed.tobytes()) == framed.size
            index.append(framed)
        return messages if index.count == sum(len(commit.blocks) for commit in commits) else 0

    return run


def sum_up(n: int) -> Callable[[], int]:
    """Checksums of the bytes that messages take in blocks."""
    record = 32 + len(PAYLOAD)
    blocks = _cutting(bytes(range(256)) * (n * record // 256), 262_144)

    def run() -> int:
        total = 0
        for block in blocks:
            total = checksum(block, total)
        return n if total else 0

    return run


def make_mailbox() -> Mailbox:
    """A mailbox, for probes that want one."""
    return Broker().mailbox
