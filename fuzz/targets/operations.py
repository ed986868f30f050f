"""Everything that a client can ask of a broker: headers of a send, JSON of a request, subscriptions, in any order and with any values.

An input is a list of steps, one behind the other with a zero byte between: `subject`, `headers` and `body` with a byte 1 between them.
The first character of the subject stands for one of SUBJECTS. Each step comes from the same client, and is a request; beside it
there is another client, whom nothing of it may reach.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from fuzz.broker import Fuzzed
from fuzz.target import Target
from mq9.store.memory_engine import MemoryStore
from tests.simulation.clients import Client, Frame

SUBJECTS: Final = {
    b"c": b"$mq9.AI.MAILBOX.CREATE",
    b"s": b"$mq9.AI.MAILBOX.MSG.",
    b"l": b"$mq9.AI.MAILBOX.LIST.",
    b"d": b"$mq9.AI.MAILBOX.DELETE.",
    b"r": b"$mq9.AI.MAILBOX.REMOVE.",
    b"e": b"$mq9.AI.MAILBOX.EVENTS.",
    b"p": b"$mq9.AI.PUBLIC.LIST",
    b"f": b"$mq9.AI.MSG.FETCH.",
    b"a": b"$mq9.AI.MSG.ACK.",
    b"i": b"$mq9.AI.MSG.STATUS.",
    b"S": b"$mq9.AI.MSG.SEND.",
    b"Q": b"$mq9.AI.MSG.QUERY.",
    b"D": b"$mq9.AI.MSG.DELETE.",
    b"$": b"$",
    b"o": b"",
}
CODES: Final = {400, 403, 404, 409, 413, 429, 503, 507}
_STEPS_MAX: Final = 40
# A day: the broker looks at its clients each second of it.
_TIME_MAX_MS: Final = 100_000_000
_CONNECT: Final = b'CONNECT {"verbose":false,"headers":true,"no_responders":true,"protocol":1}\r\n'


class Play:
    """The steps of one input, carried out."""

    def __init__(self, broker: Fuzzed) -> None:
        self._broker = broker
        self._sids = 0
        self._asked = 0
        self.bystander = broker.connect()
        self.client = broker.connect()
        self._steady()

    def step(self, step: bytes) -> None:
        """Carry out one step, and judge what came of it."""
        subject, _, rest = step.partition(b"\1")
        headers, _, body = rest.partition(b"\1")
        kind = subject[:1]
        if kind == b"t":
            digits = subject[1:12]
            self._broker.pass_time(min(int(digits), _TIME_MAX_MS) if digits.isdigit() else 1_000)
        elif kind == b"x":
            self.client.leave(politely=subject != b"x")
            self._broker.settle()
            self.client = self._broker.connect()
        elif kind == b"z":
            self._restart()
        elif kind == b"w":
            self._say(step[1:][:8192])
        elif kind == b"+":
            self._sids = self._sids % 8 + 1
            self._say(b"SUB %b%b %d\r\n" % (SUBJECTS.get(subject[1:2], b""), _token(subject[2:]), self._sids))
        elif kind == b"-":
            self._say(b"UNSUB %b\r\n" % _token(subject[1:]))
        else:
            self._request(SUBJECTS.get(kind, b"") + _token(subject[1:]), headers, body)
        self._judge()

    def end(self) -> None:
        """The other client is served as ever."""
        self._steady()

    def _restart(self) -> None:
        self._broker.restart()
        self.bystander = self._broker.connect()
        self.client = self._broker.connect()

    def _request(self, subject: bytes, headers: bytes, body: bytes) -> None:
        self._asked += 1
        reply = self.client.inbox + b"%d" % self._asked
        block = b"" if not headers else b"NATS/1.0\r\n" + headers.replace(b"\n", b"\r\n") + b"\r\n\r\n"
        if headers[:1] == b"!":
            block = headers[1:].replace(b"\n", b"\r\n")
        data = block + body
        if block:
            self._say(b"HPUB %b %b %d %d\r\n%b\r\n" % (subject, reply, len(block), len(data), data))
        else:
            self._say(b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(data), data))

    def _say(self, data: bytes) -> None:
        if self.client.gone:
            self.client = self._broker.connect()
        self.client.say(data)
        self._broker.settle()

    def _judge(self) -> None:
        for frame in self._broker.told(self.client):
            if frame.kind in (b"MSG", b"HMSG") and frame.sid == b"0" and b"Nats-Subject" not in frame.headers:
                _judge_answer(frame)
            else:
                assert frame.kind in (b"MSG", b"HMSG", b"INFO", b"PING", b"PONG", b"+OK", b"-ERR"), frame
        assert [frame for frame in self._broker.told(self.bystander) if frame.kind in (b"MSG", b"HMSG")] == []

    def _steady(self) -> None:
        """Create a mailbox, send to it and look into it."""
        broker, client = self._broker, self.bystander
        self._ask(client, b"$mq9.AI.MAILBOX.CREATE", b'{"ttl":60}')
        (created,) = _answers(broker.told(client))
        self._ask(client, b"$mq9.AI.MAILBOX.MSG." + created["mail_id"].encode(), b"hello")
        (sent,) = _answers(broker.told(client))
        self._ask(client, b"$mq9.AI.MAILBOX.LIST." + created["mail_id"].encode(), b"")
        (listed,) = _answers(broker.told(client))
        assert [item["payload"] for item in listed["messages"]] == ["hello"], listed
        assert [item["msg_id"] for item in listed["messages"]] == [sent["msg_id"]]

    def _ask(self, client: Client, subject: bytes, body: bytes) -> None:
        client.say(b"PUB %b %b0 %d\r\n%b\r\n" % (subject, client.inbox, len(body), body))
        self._broker.settle()


def _token(text: bytes) -> bytes:
    """`text` as what can stand between two blanks of a control line."""
    return bytes(byte for byte in text[:2_000] if byte not in b" \t\r\n")


def _answers(told: list[Frame]) -> list[dict[str, Any]]:
    return [json.loads(frame.payload) for frame in told if frame.kind in (b"MSG", b"HMSG")]


def _judge_answer(frame: Frame) -> None:
    """An answer is JSON, and an error is one of those that are documented."""
    if b"Nats-Service-Error-Code" not in frame.headers:
        return
    answer = json.loads(frame.payload)
    assert answer["code"] in CODES, answer
    assert answer["error"], answer
    assert "\n" not in answer["error"], answer
    assert int(frame.headers[b"Nats-Service-Error-Code"]) == answer["code"]


def run(data: bytes) -> None:
    """See Target.run."""
    with Fuzzed(MemoryStore()) as broker:
        play = Play(broker)
        play.step(b'c\1\1{"name":"box","ttl":0}')
        for step in data.split(b"\0")[:_STEPS_MAX]:
            play.step(step)
        play.end()


def _steps(*steps: bytes) -> bytes:
    return b"\0".join(step.replace(b"|", b"\1") for step in steps)


def seeds() -> Iterator[bytes]:
    """What tests do with the operations, in short."""
    yield _steps(b'c||{"name":"a.b","public":true,"desc":"d","ttl":60}', b"p", b'p||{"limit":1,"prefix":"a"}', b"ra.b")
    yield _steps(b"+sbox.*", b"sbox||one", b"sbox.high||two", b'lbox||{"limit":1}', b"dbox.3", b"-1", b"rbox")
    yield _steps(b"sbox|mq9-priority: low\nmq9-ttl: 5\nmq9-delay: 1.5\nmq9-tags: a,b\nx: y|three", b"t2000", b"t9000")
    yield _steps(b"sbox|mq9-key: k|one", b"sbox|mq9-key: k|two", b'lbox||{"key":"k","tags":["a"],"since":1.5}')
    yield _steps(b"sbox|Nats-Msg-Id: 1|one", b"sbox|Nats-Msg-Id: 1|one", b"Sbox||payload", b"z", b"Qbox", b"Dbox.3")
    yield _steps(
        b"sbox||work",
        b'fbox||{"group_name":"g","config":{"num_msgs":10,"max_wait_ms":0},"lease_ms":1000}',
        b'abox||{"group_name":"g","msg_ids":[3],"op":"nack","delay_ms":10}',
        b"t50",
        b'fbox||{"group_name":"g","deliver":"from_id","from_id":1,"force_deliver":true}',
        b'abox||{"group_name":"g","msg_id":3,"mail_address":"box"}',
    )
    yield _steps(b"sbox||work", b"+sbox g", b'fbox||{"group_name":"g"}', b"x", b"z", b'lbox||{"dead":"g"}')
    yield _steps(
        b'fbox||{"group_name":"g","config":{"max_wait_ms":500}}',
        b"sbox||now",
        b'abox||{"group_name":"g","msg_ids":[3],"op":"dead","reason":"no"}',
        b'lbox||{"dead":"g"}',
        b'abox||{"group_name":"g","msg_ids":[3],"op":"revive"}',
        b'abox||{"group_name":"g","msg_ids":[3],"op":"extend","lease_ms":5}',
        b"t100",
        b"ibox.3",
    )
    yield _steps(b"+ebox", b"+p", b'c||{"name":"box","renew":true,"ttl":9}', b"t20000")
    yield _steps(b"sbox|!NATS/1.0\n\n|x", b"sbox|!garbage|x", b"sbox|mq9-ttl: x|x", b"snobody||x", b"$mq9.x", b"$SYS.x")
    yield _steps(b"wPING\r\nSUB > 9\r\nPUB o 2\r\nhi\r\n", b"oa.b||core", b"+oa.*", b"oa.b|A: b|core", b"w-ERR\r\n")
    yield _steps(
        b'fbox||{"deliver":"latest","config":{"max_wait_ms":0}}', b'fbox||{"deliver":"from_time","from_time":1}'
    )


TARGET: Final = Target(
    "operations",
    run,
    seeds,
    words=(
        *(
            b'"ttl":',
            b'"public":true',
            b'"name":"',
            b'"desc":"',
            b'"renew":true',
            b'"limit":',
            b'"after":',
            b'"prefix":"',
        ),
        *(b'"priority":"', b'"key":"', b'"tags":["', b'"since":', b'"payload":false', b'"dead":"', b'"group_name":"g"'),
        *(b'"deliver":"', b'"earliest"', b'"latest"', b'"from_time"', b'"from_id":', b'"force_deliver":true'),
        *(b'"config":{', b'"num_msgs":', b'"max_wait_ms":', b'"lease_ms":', b'"msg_ids":[', b'"msg_id":', b'"op":"'),
        *(b'"ack"', b'"nack"', b'"extend"', b'"dead"', b'"revive"', b'"delay_ms":', b'"reason":"', b'"attempt":'),
        *(
            b"mq9-priority: ",
            b"mq9-ttl: ",
            b"mq9-delay: ",
            b"mq9-key: ",
            b"mq9-tags: ",
            b"Nats-Msg-Id: ",
            b"mq9-time: ",
        ),
        *(b"critical", b"urgent", b"high", b"normal", b"low", b"box", b"\0sbox\1\1", b"\0fbox\1\1{", b"\0abox\1\1{"),
        *(b"18446744073709551615", b"18446744073709551616", b"1e308", b"-1", b"null", b"\\ud800", b"\\u0000"),
    ),
    size_max=2048,
)
