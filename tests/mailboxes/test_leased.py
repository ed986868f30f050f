"""A message as FETCH shows it is the JSON that docs/protocol.md §4 describes, whatever its sender has put into it."""

from __future__ import annotations

import base64
import json
import struct

from hypothesis import given
from hypothesis import strategies as st

from mq9.mailboxes.leased import leased_item
from mq9.protocol import PRIORITIES

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)
NAMES = st.one_of(
    st.sampled_from(["mq9-key", "Nats-Msg-Id", "x", "X"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n:"), min_size=1, max_size=20),
)


def record(msg_id: int, rank: int, time_ms: int, headers: bytes, payload: bytes) -> bytes:
    """A record as mailboxes/format.pxd lays it out, without any of the fields that flags announce."""
    size = 32 + len(headers) + len(payload)
    return struct.pack("<IIQQQ", size, len(headers), msg_id, 9 | rank << 48, time_ms) + headers + payload


@given(
    msg_id=st.integers(1, 2**64 - 1),
    rank=st.integers(0, 4),
    time_ms=st.integers(0, 2**45),
    payload=st.binary(max_size=300),
    lines=st.none() | st.lists(st.tuples(NAMES, TEXT), max_size=20),
    attempt=st.integers(0, 255),
)
def test_it_says_what_is_in_the_record(
    msg_id: int, rank: int, time_ms: int, payload: bytes, lines: list[tuple[str, str]] | None, attempt: int
) -> None:
    block = (
        b"" if lines is None else b"NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines).encode()
    )
    item = leased_item(b"before" + record(msg_id, rank, time_ms, block, payload), 6, attempt)
    headers: dict[str, list[str]] = {}
    for name, value in lines or ():
        headers.setdefault(name, []).append(value.strip(" \t"))
    assert json.loads(item) == {
        "msg_id": msg_id,
        "priority": PRIORITIES[rank],
        "payload": base64.b64encode(payload).decode(),
        "create_time": time_ms // 1_000,
        "header": list(block + b"\r\n") if block else None,
        "headers": headers,
        "attempt": attempt,
    }
