"""The JSON of each request (protocol.py): read within its bounds, or refused with a sentence.

An input is a byte that chooses the request, and the body.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Final

from fuzz.target import Target
from mq9.protocol import (
    ACK_OPERATIONS,
    ACKED_MAX,
    DELIVER,
    DESC_BYTES_MAX,
    FETCH_LIMIT_MAX,
    LEASE_MAX_MS,
    LEASED_MAX,
    MSG_ID_MAX,
    NACK_DELAY_MAX_MS,
    PRIORITIES,
    REASON_BYTES_MAX,
    TAGS_MAX,
    TTL_MAX_S,
    WAIT_MAX_MS,
    AckRequest,
    CreateRequest,
    FetchRequest,
    LeaseRequest,
    ListRequest,
    ProtocolError,
    bad_group_name,
    bad_name,
)

MAIL_ID: Final = "a.box"
_NUMBERS_MAX: Final = 1e15


def judge_create(body: bytes) -> None:
    """A create request is within its bounds, or refused."""
    request = CreateRequest.parse(body)
    assert request.ttl is None or (type(request.ttl) is int and 0 <= request.ttl <= TTL_MAX_S)
    assert type(request.public) is type(request.renew) is type(request.owner_only) is bool
    assert len(request.desc.encode()) <= DESC_BYTES_MAX
    if request.name is None:
        assert not request.public
        assert not request.renew
    else:
        assert bad_name(request.name) is None or (request.renew and request.name.startswith("m-"))


def judge_fetch(body: bytes) -> None:
    """The same of a fetch."""
    request = FetchRequest.parse(body)
    assert 1 <= request.limit <= FETCH_LIMIT_MAX
    assert 0 <= request.after <= MSG_ID_MAX
    assert request.priority is None or request.priority in PRIORITIES
    assert len(request.tags) <= TAGS_MAX
    assert request.since is None or abs(request.since) < _NUMBERS_MAX
    assert type(request.payload) is bool
    assert request.dead is None or bad_group_name(request.dead) is None
    # Both are compared with bytes.
    for text in (request.key or "", *request.tags):
        text.encode()


def judge_list(body: bytes) -> None:
    """The same of a list."""
    request = ListRequest.parse(body)
    assert 1 <= request.limit <= FETCH_LIMIT_MAX
    assert isinstance(request.after, str)
    assert isinstance(request.prefix, str)


def judge_lease(body: bytes) -> None:
    """The same of a FETCH."""
    request = LeaseRequest.parse(body)
    assert request == LeaseRequest.read(body)
    assert request.group is None or bad_group_name(request.group) is None
    assert request.deliver in DELIVER
    assert request.deliver != "from_id" or request.from_id is not None
    assert request.deliver != "from_time" or request.from_time is not None
    assert request.from_time is None or abs(request.from_time) < _NUMBERS_MAX
    assert request.from_id is None or 0 <= request.from_id <= MSG_ID_MAX
    assert 1 <= request.limit <= LEASED_MAX
    assert 0 <= request.wait_ms <= WAIT_MAX_MS
    assert 1 <= request.lease_ms <= LEASE_MAX_MS


def judge_ack(body: bytes) -> None:
    """The same of an ACK."""
    request = AckRequest.parse(body, MAIL_ID)
    assert bad_group_name(request.group) is None
    assert (request.msg_id is None) == bool(request.msg_ids)
    assert len(request.msg_ids) <= ACKED_MAX
    assert all(0 <= msg_id <= MSG_ID_MAX for msg_id in (*request.msg_ids, request.msg_id or 0))
    assert request.op in ACK_OPERATIONS
    assert 0 <= request.delay_ms <= NACK_DELAY_MAX_MS
    assert 1 <= request.lease_ms <= LEASE_MAX_MS
    assert len(request.reason) <= REASON_BYTES_MAX


JUDGES: Final[tuple[Callable[[bytes], None], ...]] = (judge_create, judge_fetch, judge_list, judge_lease, judge_ack)


def run(data: bytes) -> None:
    """See Target.run."""
    judge = JUDGES[sum(data[:1]) % len(JUDGES)]
    try:
        judge(data[1:])
    except ProtocolError as error:
        assert error.code in {400, 413}
        assert error.sentence
        assert "\n" not in error.sentence
        assert json.loads(error.reply()) == {"error": error.sentence, "code": error.code}


def seeds() -> Iterator[bytes]:
    """One of everything that may be asked for."""
    for kind, body in (
        (0, b'{"ttl":60,"public":true,"name":"a.b","desc":"d","renew":false}'),
        (0, b'{"name":"m-aaaaaaaaaaaaaaaaaaaaaaaaaa","renew":true}'),
        (
            1,
            b'{"limit":5,"after":1,"priority":"high","key":"k","tags":["a","b"],"since":1.5,"payload":false,"dead":"g"}',
        ),
        (2, b'{"limit":1000,"after":"a","prefix":"b"}'),
        (
            3,
            b'{"group_name":"g","deliver":"from_id","from_id":1,"force_deliver":true,"config":{"num_msgs":1,"max_wait_ms":2}}',
        ),
        (3, b'{"group_name":"","deliver":"from_time","from_time":1.25,"lease_ms":3}'),
        (4, b'{"group_name":"g","mail_address":"a.box","msg_id":7}'),
        (4, b'{"group_name":"g","msg_ids":[1,2],"op":"nack","delay_ms":1,"lease_ms":2,"reason":"r","attempt":3}'),
        (0, b""),
        (1, b"[1]"),
        (2, b"[" * 300),
        (3, b'{"lease_ms":1e400}'),
        (4, b'{"group_name":"\\ud800","msg_id":' + b"9" * 60 + b"}"),
    ):
        yield bytes([kind]) + body


TARGET: Final = Target(
    "requests",
    run,
    seeds,
    words=(
        *(b'"ttl":', b'"public":', b'"name":', b'"desc":', b'"renew":', b'"limit":', b'"after":', b'"priority":'),
        *(
            b'"key":',
            b'"tags":[',
            b'"since":',
            b'"payload":',
            b'"dead":',
            b'"prefix":',
            b'"group_name":',
            b'"deliver":',
        ),
        *(b'"from_time":', b'"from_id":', b'"force_deliver":', b'"config":{', b'"num_msgs":', b'"max_wait_ms":'),
        *(b'"lease_ms":', b'"mail_address":', b'"msg_id":', b'"msg_ids":[', b'"op":', b'"delay_ms":', b'"reason":'),
        *(b'"attempt":', b"true", b"false", b"null", b"NaN", b"Infinity", b"1e999", b"\\ud800", b"\\u0000", b'"high"'),
        *(b"18446744073709551615", b"18446744073709551616", b"-0", b"0.5"),
    ),
    size_max=1024,
)
