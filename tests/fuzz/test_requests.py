"""The JSON requests, whatever they contain: read, or refused with a sentence that names what was wrong."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz.targets.requests import MAIL_ID
from fuzz.targets.requests import run as judge
from mq9.protocol import (
    ACKED_MAX,
    DESC_BYTES_MAX,
    LEASE_MAX_MS,
    MAIL_ID_BYTES_MAX,
    MSG_ID_MAX,
    NACK_DELAY_MAX_MS,
    PRIORITIES,
    REASON_BYTES_MAX,
    REQUEST_BYTES_MAX,
    TAGS_MAX,
    TTL_MAX_S,
    WAIT_MAX_MS,
    AckRequest,
    CreateRequest,
    FetchRequest,
    LeaseRequest,
    ListRequest,
    ProtocolError,
    bad_mail_id,
    bad_name,
)

Request = type[CreateRequest] | type[FetchRequest] | type[LeaseRequest] | type[ListRequest]
# An ACK is read with the mail_id of its subject, and nothing in it may be missing.
ACK: Final[dict[str, Any]] = {"group_name": "g", "msg_id": 1}
ACK_KEYS: Final = [*ACK, "mail_address", "msg_ids", "op", "delay_ms", "lease_ms", "reason", "attempt"]
# In the order in which the target has them.
KEYS: Final[dict[Request, list[str]]] = {
    CreateRequest: ["ttl", "public", "name", "desc", "renew", "owner_only"],
    FetchRequest: ["limit", "after", "priority", "key", "tags", "since", "payload", "dead"],
    ListRequest: ["limit", "after", "prefix"],
    LeaseRequest: ["group_name", "deliver", "from_time", "from_id", "force_deliver", "config", "lease_ms"],
}
requests = st.sampled_from(list(KEYS))
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -0.0, 1, -1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**400, 1e308, 0.5, TTL_MAX_S, TTL_MAX_S + 1]),
)
texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from([*PRIORITIES, "", "a.b", "a..b", ".a", "m-x", "d-x", "m-" + "a" * 26, "a.high", "*", ">", "a b"]),
    st.sampled_from(
        ["n" * MAIL_ID_BYTES_MAX, "n" * (MAIL_ID_BYTES_MAX + 1), "d" * (DESC_BYTES_MAX + 1), "\ud800", "\0"]
    ),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@st.composite
def bodies(draw: st.DrawFn, kind: Request) -> bytes:
    """A JSON object with known keys that have any values, and with keys of other times."""
    known = draw(st.dictionaries(st.sampled_from(KEYS[kind]), values | st.lists(texts, max_size=TAGS_MAX + 2)))
    unknown = draw(st.dictionaries(st.text(max_size=8), values, max_size=2))
    return json.dumps(unknown | known).encode()


@given(requests, st.binary(max_size=200))
@example(CreateRequest, b"[" * 60_000)
@example(CreateRequest, b'{"ttl":' * 9_000)
@example(FetchRequest, b'{"after":' + b"9" * 60_000 + b"}")
@example(ListRequest, b"\xef\xbb\xbf{}")
@example(ListRequest, b'{"limit": NaN}')
@example(ListRequest, b'{"limit": -Infinity}')
def test_any_bytes_are_read_or_refused(kind: Request, body: bytes) -> None:
    judge(bytes([list(KEYS).index(kind)]) + body)


@given(requests, st.integers(min_value=0, max_value=3))
def test_a_request_may_have_so_many_bytes_and_no_more(kind: Request, above: int) -> None:
    body = b"{}".ljust(REQUEST_BYTES_MAX + above)
    if above == 0:
        assert kind.parse(body) == kind()
    else:
        with pytest.raises(ProtocolError) as caught:
            kind.parse(body)
        assert caught.value.code == 413


@given(bodies(CreateRequest))
def test_a_create_request_is_within_bounds_or_refused(body: bytes) -> None:
    judge(bytes([0]) + body)


@given(bodies(FetchRequest))
def test_a_fetch_request_is_within_bounds_or_refused(body: bytes) -> None:
    judge(bytes([1]) + body)


@given(bodies(ListRequest))
def test_a_list_request_is_within_bounds_or_refused(body: bytes) -> None:
    judge(bytes([2]) + body)


@given(bodies(LeaseRequest))
def test_a_lease_request_is_within_bounds_or_refused(body: bytes) -> None:
    judge(bytes([3]) + body)


@given(st.dictionaries(st.sampled_from(ACK_KEYS), values | st.lists(numbers, max_size=3)))
def test_an_ack_request_is_within_bounds_or_refused(said: dict[str, Any]) -> None:
    judge(bytes([4]) + json.dumps(ACK | said).encode())


WRONG_ACK: Final[dict[str, list[Any]]] = {
    "group_name": [None, "", 1, True, [], {}, "a*", ">", "a b", "a\n", "n" * 129, "\u00e4" * 65],
    "msg_id": ["1", -1, 1.5, True, [], {}, MSG_ID_MAX + 1, None],
    "mail_address": [1, [], "another.box"],
    "msg_ids": [[], ["1"], [1.5], [True], [-1], "1", 1, {}, [MSG_ID_MAX + 1], [1] * (ACKED_MAX + 1)],
    "op": ["", "ACK", "forget", 1, True, [], {}],
    "delay_ms": ["1", -1, 1.5, True, [], {}, NACK_DELAY_MAX_MS + 1],
    "lease_ms": ["1", 0, -1, 1.5, True, [], {}, LEASE_MAX_MS + 1],
    "reason": [1, True, [], {}, "r" * (REASON_BYTES_MAX + 1), "\ud800"],
    "attempt": ["1", -1, 1.5, True, [], {}, 256],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in WRONG_ACK for value in WRONG_ACK[key]])
def test_the_sentence_names_the_key_of_an_ack(key: str, value: object) -> None:
    with pytest.raises(ProtocolError) as caught:
        AckRequest.parse(json.dumps(ACK | {key: value}).encode(), MAIL_ID)
    assert caught.value.code == 400
    assert key in caught.value.sentence.split()


def test_an_ack_is_of_one_message_or_of_several() -> None:
    for said in ({"msg_ids": [1]}, {"msg_id": None}):
        with pytest.raises(ProtocolError, match="either msg_id or msg_ids is needed"):
            AckRequest.parse(json.dumps(ACK | said).encode(), MAIL_ID)
    assert set(WRONG_ACK) == set(ACK_KEYS)


WRONG: Final[dict[tuple[Request, str], list[Any]]] = {
    (CreateRequest, "ttl"): ["60", -1, 1.0, True, [], {}, TTL_MAX_S + 1],
    (CreateRequest, "public"): ["true", 1, 0, [], {}],
    (CreateRequest, "name"): [1, True, [], {}, "", "a..b", "a.*", "a.low", "m-a", "n" * 129],
    (CreateRequest, "desc"): [1, True, [], {}, "d" * (DESC_BYTES_MAX + 1), "\ud800"],
    (CreateRequest, "renew"): ["true", 1, 0, [], {}, True],
    (CreateRequest, "owner_only"): ["true", 1, 0, [], {}],
    (FetchRequest, "limit"): ["1", 0, -1, 1.5, True, [], {}, MSG_ID_MAX + 1],
    (FetchRequest, "after"): ["1", -1, 1.5, True, [], {}, MSG_ID_MAX + 1],
    (FetchRequest, "priority"): ["", "HIGH", "highest", 1, True, [], {}],
    (FetchRequest, "key"): [1, True, [], {}],
    (FetchRequest, "tags"): ["a", 1, True, {}, [1], ["a", None], ["a", "\ud800"], ["t"] * (TAGS_MAX + 1)],
    (FetchRequest, "since"): ["now", True, [], {}, 1e300],
    (FetchRequest, "payload"): ["no", 1, 0, [], {}],
    (FetchRequest, "dead"): [1, True, [], {}, "a*", ">", "a b", "n" * 129],
    (LeaseRequest, "group_name"): [1, True, [], {}, "a*", "a>", "a b", "a\tb", "n" * 129],
    (LeaseRequest, "deliver"): ["", "first", 1, True, [], {}, "from_time", "from_id"],
    (LeaseRequest, "from_time"): ["now", True, [], {}, 1e300],
    (LeaseRequest, "from_id"): ["1", -1, 1.5, True, [], {}, MSG_ID_MAX + 1],
    (LeaseRequest, "force_deliver"): ["true", 1, 0, [], {}],
    (LeaseRequest, "config"): ["{}", 1, True, []],
    (LeaseRequest, "lease_ms"): ["30000", 0, -1, 1.5, True, [], {}, 31_536_000_000],
    (ListRequest, "limit"): ["1", 0, -1, 1.5, True, [], {}],
    (ListRequest, "after"): [1, True, [], {}],
    (ListRequest, "prefix"): [1, True, [], {}],
}


@pytest.mark.parametrize(("kind", "key", "value"), [(*which, value) for which in WRONG for value in WRONG[which]])
def test_the_sentence_names_the_key(kind: Request, key: str, value: object) -> None:
    with pytest.raises(ProtocolError) as caught:
        kind.parse(json.dumps({key: value}).encode())
    assert caught.value.code == 400
    assert key in caught.value.sentence.split()


def test_every_known_key_is_tried() -> None:
    assert {(kind, key) for kind in KEYS for key in KEYS[kind]} == WRONG.keys()
    for kind in (CreateRequest, FetchRequest, ListRequest):
        assert set(kind.__slots__) == set(KEYS[kind])
    for config in ({"num_msgs": 0}, {"num_msgs": "1"}, {"max_wait_ms": -1}, {"max_wait_ms": WAIT_MAX_MS + 1}):
        with pytest.raises(ProtocolError, match=next(iter(config))):
            LeaseRequest.parse(json.dumps({"config": config}).encode())


@given(texts | st.from_regex(r"[A-Za-z0-9_.-]{1,130}", fullmatch=True))
@settings(max_examples=300)
def test_a_mail_id_is_judged_by_its_grammar(mail_id: str) -> None:
    tokens = mail_id.split(".")
    letters = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
    good = (
        1 <= len(mail_id) <= MAIL_ID_BYTES_MAX
        and all(token and set(token) <= letters for token in tokens)
        and tokens[-1] not in PRIORITIES
    )
    assert (bad_mail_id(mail_id) is None) == good
    assert (bad_name(mail_id) is None) == (good and mail_id[:2] not in {"m-", "d-"})
