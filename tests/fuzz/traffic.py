"""What clients may send, as hypothesis strategies: good frames, frames that went wrong on their way, and garbage."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

CRLF: Final = b"\r\n"
blanks = st.sampled_from([b" ", b"  ", b"\t", b" \t "])
ends = st.sampled_from([CRLF, CRLF, CRLF, b"\n"])
subjects = st.sampled_from(
    [
        b"fuzz.a",
        b"fuzz.b.c",
        b"fuzz.*",
        b"fuzz.>",
        b"fuzz..a",
        b"fuzz.\xff",
        b"*",
        b">",
        b".",
        b"$SYS.x",
        b"fuzz." + b"x" * 300,
    ]
)
mailbox_subjects = st.sampled_from(
    [
        b"$mq9.AI.MAILBOX.CREATE",
        b"$mq9.AI.MAILBOX.MSG.fuzzed",
        b"$mq9.AI.MAILBOX.MSG.fuzzed.high",
        b"$mq9.AI.MAILBOX.MSG.fuzzed.*",
        b"$mq9.AI.MAILBOX.MSG.nobody",
        b"$mq9.AI.MAILBOX.LIST.fuzzed",
        b"$mq9.AI.MAILBOX.DELETE.fuzzed.1",
        b"$mq9.AI.MAILBOX.DELETE.fuzzed.-1",
        b"$mq9.AI.MAILBOX.DELETE.fuzzed.99999999999999999999999",
        b"$mq9.AI.MAILBOX.REMOVE.nobody",
        b"$mq9.AI.MAILBOX.EVENTS.fuzzed",
        b"$mq9.AI.PUBLIC.LIST",
        b"$mq9.",
        b"$mq9..",
        b"$mq9.>",
        b"$mq9.AI.MAILBOX.MSG.",
        b"$mq9.AI.MAILBOX.MSG..high",
        b"$mq9.AI.MAILBOX.MSG.\xff\x00\x01",
        b"$mq9.AI.MAILBOX.MSG." + b"x" * 200,
        b"$mq9.AI.MAILBOX.LIST." + b"a." * 100 + b"a",
    ]
)
replies = st.sampled_from([b"fuzz.reply.1", b"fuzz.reply.2", b"nowhere", b"$mq9.AI.PUBLIC.LIST"])
sids = st.sampled_from([b"1", b"2", b"3", b"sid"])
small = st.binary(max_size=60)
bodies = st.one_of(
    small,
    st.binary(min_size=1000, max_size=5000),
    st.sampled_from(
        [
            b"{}",
            b"[]",
            b"{",
            b'{"ttl":-1}',
            b'{"name":"fuzzed"}',
            b'{"name":"a","public":true}',
            b'{"limit":1}',
            b"null",
            b"1e999",
        ]
    ),
)
header_values = st.sampled_from([b"high", b"lowest", b"1", b"0.01", b"-1", b"1e9", b"", b"\xff", b"x" * 500])
header_names = st.sampled_from(
    [
        *(
            b"mq9-priority",
            b"mq9-ttl",
            b"MQ9-TTL",
            b"mq9-delay",
            b"mq9-key",
            b"mq9-tags",
            b"Nats-Msg-Id",
            b"nats-msg-id",
        ),
        *(b"mq9-msg-id", b"X", b"", b" x "),
    ]
)


@st.composite
def header_blocks(draw: st.DrawFn) -> bytes:
    """A header block, mostly of the form that ADR-4 gives it."""
    headers = draw(st.lists(st.tuples(header_names, header_values), max_size=4))
    block = b"NATS/1.0\r\n" + b"".join(b"%b: %b\r\n" % header for header in headers) + CRLF
    return draw(
        st.sampled_from([block, block, block, b"", block[:-2], block[:7], b"NATS/1.0 503 No\r\n\r\n", b"garbage"])
    )


@st.composite
def publishes(draw: st.DrawFn) -> bytes:
    """A whole PUB or HPUB with its payload."""
    subject = draw(st.one_of(subjects, mailbox_subjects))
    arguments = [subject, *draw(st.lists(replies, max_size=1))]
    payload = draw(bodies)
    verb = b"PUB"
    if draw(st.booleans()):
        verb = b"HPUB"
        block = draw(header_blocks())
        arguments.append(b"%d" % len(block))
        payload = block + payload
    blank = draw(blanks)
    return blank.join([verb, *arguments, b"%d" % len(payload)]) + draw(ends) + payload + CRLF


@st.composite
def controls(draw: st.DrawFn) -> bytes:
    """A whole control line of any other kind."""
    subject = draw(st.one_of(subjects, mailbox_subjects))
    line = draw(
        st.sampled_from(
            [
                [b"PING"],
                [b"PONG"],
                [b"ping", b"junk"],
                [b"SUB", subject, draw(sids)],
                [b"SUB", subject, b"queue", draw(sids)],
                [b"UNSUB", draw(sids)],
                [b"UNSUB", draw(sids), b"2"],
                [b"CONNECT", b'{"verbose":false,"headers":true,"no_responders":true}'],
                [b"CONNECT", b'{"verbose":true,"headers":true}'],
                [b"+OK"],
                [b"INFO", b"{}"],
            ]
        )
    )
    return draw(blanks).join(line) + draw(ends)


good = st.one_of(publishes(), publishes(), controls())


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A good frame in which something was cut out, put in or changed."""
    frame = draw(good)
    start = draw(st.integers(0, len(frame)))
    end = min(len(frame), start + draw(st.integers(0, 8)))
    return frame[:start] + draw(st.binary(max_size=8)) + frame[end:]


wrong = st.sampled_from(
    [
        b"PUB a -1\r\n",
        b"PUB a 99999999999999999999\r\n",
        b"PUB a 1048577\r\n",
        b"HPUB a 9 5\r\n12345\r\n",
        b"HPUB a -1 5\r\n",
        b"PUB " + b"a" * 5000,
        b"SUB a\r\n",
        b"UNSUB\r\n",
        b"-ERR 'no'\r\n",
        b"CONNECT {\r\n",
        b'CONNECT {"protocol":9}\r\n',
        b"CONNECT " + b"[" * 3000 + b"\r\n",
        b"MSG a 1 1\r\nx\r\n",
        b"\r\n",
        b"\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
    ]
)
conversations = st.lists(st.one_of(good, good, good, spoiled(), wrong, st.binary(max_size=30)), max_size=12).map(
    b"".join
)


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces, cut at any bytes."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
