"""A client of the mailboxes that says each operation in plain frames, one at a time or many in one write."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from mq9 import protocol
from mq9.protocol import PRIORITIES
from tests.support.rawclient import CRLF, PATIENCE_S, RawClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

MAILBOX: Final = "$mq9.AI.MAILBOX"
_INBOX: Final = b"answers"
Answer = dict[str, Any]


@dataclass(frozen=True)
class Mail:
    """A message as fetch or a receiver shows it; `headers` are the sender's."""

    msg_id: int
    priority: str
    payload: bytes
    headers: tuple[tuple[str, str], ...] = ()


def delivery_order(mails: Iterable[Mail]) -> list[Mail]:
    """How a new receiver gets them: by priority, then by msg_id."""
    return sorted(mails, key=lambda mail: (PRIORITIES.index(mail.priority), mail.msg_id))


def until(ask: Callable[[], Answer]) -> Answer:
    """The first answer of `ask` that is no refusal for want of storage."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := ask()).get("code") in {503, 507}:
        assert time.monotonic() < deadline, f"still {answer}"
        time.sleep(0.02)
    return answer


class Post:
    """One connection to the broker at `url`.

    Arguments:
        url: where the broker listens.
        patience_s: seconds after which waiting for an answer is a failed test.
        options: what CONNECT says besides.
    """

    def __init__(self, url: str, patience_s: float = PATIENCE_S, **options: object) -> None:
        self.client = RawClient(urlsplit(url).port or 0, patience_s=patience_s).connect(**options)
        self.client.send(b"SUB %b.* 1\r\n" % _INBOX)
        self._sids = 1

    def ask_all(self, requests: Iterable[tuple[str, bytes]]) -> list[Answer]:
        """The answers to requests (subject, body), all written at once, in the order of the requests."""
        asked = list(requests)
        self.client.send(
            b"".join(
                b"PUB %b %b.%d %d\r\n%b\r\n" % (subject.encode(), _INBOX, number, len(body), body)
                for number, (subject, body) in enumerate(asked)
            )
        )
        answers: dict[int, Answer] = {}
        for _ in asked:
            number, answer = self.answer()
            assert number not in answers, f"{asked[number]} was answered twice"
            answers[number] = answer
        return [answers[number] for number in range(len(asked))]

    def ask(self, subject: str, body: bytes | dict[str, Any] = b"") -> Answer:
        """The answer to one request."""
        return self.ask_all([(subject, body if isinstance(body, bytes) else json.dumps(body).encode())])[0]

    def begin(self, subject: str, body: bytes | dict[str, Any] = b"", *, number: int = 0) -> None:
        """Write one request, whose answer `answer` gives under `number`."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.client.send(b"PUB %b %b.%d %d\r\n%b\r\n" % (subject.encode(), _INBOX, number, len(data), data))

    def answer(self) -> tuple[int, Answer]:
        """The number and the answer of a request, whichever comes next; an error's code must be in its headers, too."""
        frame = self.client.frame()
        assert frame is not None, "the broker hung up instead of answering"
        words = frame[: frame.index(CRLF)].split(b" ")
        assert words[0] in {b"MSG", b"HMSG"}, frame
        body: Answer = json.loads(frame.rpartition(CRLF)[2])
        if words[0] == b"HMSG":
            assert f"Nats-Service-Error-Code: {body['code']}\r\n".encode() in frame
        else:
            assert not body.get("error"), body
        return int(words[1].rpartition(b".")[2]), body

    def create(self, **request: object) -> Answer:
        """Create a mailbox that never ends, unless `request` says otherwise; the whole answer."""
        return self.ask(protocol.CREATE, {"ttl": 0, **request})

    def new(self, **request: object) -> str:
        """The mail_id of a mailbox that was not there before."""
        answer = self.create(**request)
        assert answer.get("is_new"), answer
        return str(answer["mail_id"])

    def send(self, mail_id: str, payload: bytes, priority: str = "normal") -> Answer:
        """Send one message; the whole answer."""
        return self.ask(f"{MAILBOX}.MSG.{mail_id}.{priority}", payload)

    def send_all(self, mail_id: str, payloads: Iterable[bytes], priority: str = "normal") -> list[int]:
        """Send messages in one write; their msg_ids."""
        subject = f"{MAILBOX}.MSG.{mail_id}.{priority}"
        return [int(answer["msg_id"]) for answer in self.ask_all((subject, payload) for payload in payloads)]

    def delete(self, mail_id: str, msg_id: int) -> Answer:
        """Delete one message; the whole answer."""
        return self.ask(f"{MAILBOX}.DELETE.{mail_id}.{msg_id}")

    def remove(self, mail_id: str) -> Answer:
        """End a mailbox; the whole answer."""
        return self.ask(f"{MAILBOX}.REMOVE.{mail_id}")

    def pages(self, mail_id: str, limit: int = 1_000) -> list[dict[str, Any]]:
        """All messages as fetch gives them, page by page; fails when their msg_ids do not rise."""
        found: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            answer = self.ask(f"{MAILBOX}.LIST.{mail_id}", {"limit": limit, "after": after})
            assert answer.get("mail_id") == mail_id, answer
            found += answer["messages"]
            after = answer["next"]
        ids = [item["msg_id"] for item in found]
        assert ids == sorted(set(ids)), "msg_ids do not rise from page to page"
        return found

    def fetch(self, mail_id: str, limit: int = 1_000) -> list[Mail]:
        """All messages, in msg_id order."""
        return [_mail_of_item(item) for item in self.pages(mail_id, limit)]

    def receive(self, mail_id: str, count: int) -> list[Mail]:
        """The first `count` messages that a new receiver gets, of which the last one must be the last there is."""
        self._sids += 1
        sid = b"%d" % self._sids
        self.client.send(b"SUB %b.MSG.%b.* %b\r\n" % (MAILBOX.encode(), mail_id.encode(), sid))
        found = []
        for index in range(count):
            mail, pending = self._delivered(sid)
            assert (pending == 0) == (index == count - 1), f"{pending} are pending after {index + 1} of {count}"
            found.append(mail)
        self.client.send(b"UNSUB %b\r\n" % sid)
        assert self.client.fence() == []
        return found

    def listed(self) -> dict[str, dict[str, Any]]:
        """The public mailboxes by their names, page by page."""
        found: dict[str, dict[str, Any]] = {}
        after: str | None = ""
        while after is not None:
            answer = self.ask(protocol.PUBLIC_LIST, {"after": after, "limit": 100})
            found |= {mailbox["mail_id"]: mailbox for mailbox in answer["mailboxes"]}
            after = answer["next"]
        return found

    def close(self) -> None:
        """Hang up."""
        self.client.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _delivered(self, sid: bytes) -> tuple[Mail, int]:
        frame = self.client.frame()
        assert frame is not None
        line, _, rest = frame.partition(CRLF)
        words = line.split(b" ")
        assert words[0] == b"HMSG", frame
        assert words[2] == sid, frame
        block, payload = rest[: int(words[-2])], rest[int(words[-2]) :]
        headers = [
            (name.decode(), value.strip().decode())
            for name, _, value in (header.partition(b":") for header in block.split(CRLF)[1:-2])
        ]
        own = dict(headers[-4:])
        assert list(own) == ["mq9-msg-id", "mq9-priority", "mq9-time", "mq9-pending"]
        assert words[1].endswith(b"." + own["mq9-priority"].encode())
        mail = Mail(int(own["mq9-msg-id"]), own["mq9-priority"], payload, tuple(headers[:-4]))
        return mail, int(own["mq9-pending"])


def _mail_of_item(item: dict[str, Any]) -> Mail:
    text = item["payload"]
    payload = base64.b64decode(text) if item["encoding"] == "base64" else text.encode()
    assert item["size"] == len(payload)
    headers = tuple((name, value) for name, values in item["headers"].items() for value in values)
    return Mail(item["msg_id"], item["priority"], payload, headers)
