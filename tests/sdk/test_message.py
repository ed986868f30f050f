"""Messages: payloads there and back, and what printing one shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq9 import BadRequest, Message, Priority
from mq9.sdk.message import BINARY, JSON, TEXT, Record, decode, encode

PRIVATE = "m-" + "b3" * 13


def message(data: bytes = b"", /, size: int | None = None, **headers: str) -> Message:
    """A message as the broker would deliver it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    record = Record(7, Priority.HIGH, data, named, 1_700_000_000_250, len(data) if size is None else size, 3)
    return Message(record, None)  # type: ignore[arg-type]  # only `reply` needs the mailbox


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    st.binary()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | json_values.filter(lambda v: not isinstance(v, str))
)
def test_every_payload_comes_back_as_it_was(payload: Any) -> None:
    data, content_type = encode(payload)
    back = decode(data, content_type)
    assert back == payload
    assert type(back) is type(payload)


@given(
    st.binary(), st.sampled_from([None, JSON, TEXT, BINARY, "text/html", "application/x+json", "", "; ;", "nonsense"])
)
def test_decoding_never_raises(data: bytes, content_type: str | None) -> None:
    assert isinstance(decode(data, content_type), object)


def test_what_is_no_json_comes_as_text_and_what_is_no_text_as_bytes() -> None:
    assert decode(b"{not json", JSON) == "{not json"
    assert decode(b"\xff\x00", JSON) == b"\xff\x00"
    assert decode(b"\xff\x00", TEXT) == b"\xff\x00"
    assert decode(b"[" * 100_000, JSON) == "[" * 100_000


def test_without_a_content_type_only_objects_and_arrays_are_json() -> None:
    assert decode(b' {"a": 1}', None) == {"a": 1}
    assert decode(b"[1]", None) == [1]
    assert decode(b"17", None) == "17"
    assert decode(b"hello", None) == "hello"
    assert decode(b"\xff", None) == b"\xff"


def test_bytes_like_payloads_are_bytes() -> None:
    assert encode(bytearray(b"ab")) == (b"ab", BINARY)
    assert encode(memoryview(b"ab")) == (b"ab", BINARY)


@pytest.mark.parametrize("payload", [object(), {"a": {1, 2}}, float("nan"), "\ud800", {"a": "\ud800"}, {("a", "b"): 1}])
def test_a_payload_that_is_neither_bytes_nor_text_nor_json_is_refused(payload: Any) -> None:
    with pytest.raises(BadRequest, match="payload"):
        encode(payload)


def test_an_endless_payload_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(BadRequest, match="payload"):
        encode(endless)


def test_the_attributes_of_a_message() -> None:
    got = message(b'{"a": 1}', content_type=JSON, mq9_reply_to="answers", mq9_correlation_id="c-1")
    assert got.msg_id == 7
    assert got.priority == "high"
    assert got.priority is Priority.HIGH
    assert got.time == datetime.fromtimestamp(1_700_000_000.25, UTC)
    assert got.payload == {"a": 1}
    assert got.data == b'{"a": 1}'
    assert got.size == 8
    assert got.pending == 3
    assert got.reply_to == "answers"
    assert got.correlation_id == "c-1"
    assert got.headers["content-type"] == JSON


def test_headers_that_others_spell_in_capitals_are_understood() -> None:
    record = Record(1, Priority.LOW, b"[1]", {"Content-Type": JSON, "MQ9-Reply-To": "x"}, 0, 3)
    got = Message(record, None)  # type: ignore[arg-type]  # only `reply` needs the mailbox
    assert got.payload == [1]
    assert got.reply_to == "x"
    assert got.time is None


def test_keys_of_a_json_object() -> None:
    got = message(b'{"a": 1, "b": null}', content_type=JSON)
    assert got["a"] == 1
    assert got.get("a") == 1
    assert got.get("c") is None
    assert got.get("c", 5) == 5
    assert "b" in got
    assert "c" not in got
    with pytest.raises(KeyError):
        got["c"]


@pytest.mark.parametrize("data", [b"text", b"[1]", b"\xff"])
def test_keys_of_anything_else_are_missing(data: bytes) -> None:
    got = message(data)
    assert got.get("a", "none") == "none"
    assert "a" not in got
    with pytest.raises(KeyError, match="not a JSON object"):
        got["a"]


def test_printing_shows_number_priority_and_payload() -> None:
    assert str(message(b'{"a": 1}', content_type=JSON)) == "#7 high {'a': 1}"
    assert repr(message(b"hello")) == "<message #7 high 'hello'>"


def test_printing_never_shows_a_private_mail_id() -> None:
    for data in (f'{{"from": "{PRIVATE}"}}'.encode(), PRIVATE.encode(), b"\xff" + PRIVATE.encode()):
        got = message(data, mq9_reply_to=PRIVATE)
        assert PRIVATE not in str(got)
        assert PRIVATE not in repr(got)


@given(st.integers(0, 260))
def test_shortening_cuts_no_private_mail_id_in_half(before: int) -> None:
    shown = str(message(b"x" * before + b" " + PRIVATE.encode() + b"y" * 50))
    assert PRIVATE[:10] not in shown


def test_printing_a_long_payload_shortens_it() -> None:
    assert len(str(message(b"x" * 100_000))) < 300
    assert "(100000 bytes)" in str(message(b"x" * 100_000))


def test_what_no_broker_would_deliver_is_no_record() -> None:
    subject = "$mq9.AI.MAILBOX.MSG.box.high"
    assert Record.delivered(subject, {"mq9-msg-id": "5"}, b"") is not None
    assert Record.delivered(subject, {}, b"") is None
    assert Record.delivered(subject, {"mq9-msg-id": "five"}, b"") is None
    assert Record.delivered("$mq9.AI.MAILBOX.MSG.box.soon", {"mq9-msg-id": "5"}, b"") is None
