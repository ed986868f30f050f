"""Rows and blocks as a start reads them: what was written comes back, and what cannot be right is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mq9.mailboxes.format import DamagedError, MailboxRow, seal_block, seal_row
from mq9.mailboxes.loading import Loading
from mq9.mailboxes.office import PostOffice
from mq9.protocol import MAIL_ID_BYTES_MAX, PRIORITIES, TTL_MAX_S, bad_mail_id

TIMES = st.integers(0, 2**48 - 1)


@given(
    st.builds(
        MailboxRow,
        st.integers(1, 2**48),
        st.from_regex(rb"[a-z0-9-]{1,40}", fullmatch=True).filter(lambda name: not bad_mail_id(name.decode())),
        st.booleans(),
        st.text().map(str.encode),
        st.integers(0, TTL_MAX_S),
        TIMES,
        TIMES,
        st.binary(max_size=20),
        st.booleans(),
    )
)
def test_a_mailbox_comes_back_as_it_was_stored(row: MailboxRow) -> None:
    found = MailboxRow.unpack(row.key, row.pack())
    assert found == row
    assert type(found) is MailboxRow


@given(st.one_of(st.binary(max_size=300), st.text("abcXYZ019-_.* ", max_size=300).map(str.encode)))
@example(b"a" * MAIL_ID_BYTES_MAX)
@example(b"a" * (MAIL_ID_BYTES_MAX + 1))
@example(b"")
def test_no_mailbox_has_a_name_that_the_protocol_does_not_allow(name: bytes) -> None:
    row = MailboxRow(1, name, False, b"", 0, 0, 0)
    if bad_mail_id(name.decode("latin-1")) is None:
        assert MailboxRow.unpack(row.key, row.pack()) == row
    else:
        with pytest.raises(DamagedError, match="name"):
            MailboxRow.unpack(row.key, row.pack())


@pytest.mark.parametrize("word", PRIORITIES)
def test_no_mailbox_is_named_as_a_priority(word: str) -> None:
    row = MailboxRow(1, word.encode(), False, b"", 0, 0, 0)
    with pytest.raises(DamagedError, match="name"):
        MailboxRow.unpack(row.key, row.pack())


@pytest.mark.parametrize("owner", [b"", b"somebody"])
def test_a_row_of_any_other_size_is_refused(owner: bytes) -> None:
    row = MailboxRow(1, b"box", True, b"of somebody", 60, 1, 2, owner, bool(owner))
    body = row.pack()[:-4]
    for size in range(len(body)):
        with pytest.raises(DamagedError, match=r"too short|wrong size"):
            MailboxRow.unpack(row.key, seal_row(row.key, body[:size]))
    with pytest.raises(DamagedError, match="wrong size"):
        MailboxRow.unpack(row.key, seal_row(row.key, body + b"x"))
    for value in (b"", b"\0\0\0", body, row.pack()[:-1], row.pack() + b"\0"):
        with pytest.raises(DamagedError, match="checksum"):
            MailboxRow.unpack(row.key, value)


@pytest.mark.parametrize(
    ("at", "what"),
    [(0, "version"), (2, "size"), (3, "size"), (4, "size"), (5, "size"), (13, "time"), (21, "time"), (29, "time")],
)
def test_a_row_that_says_more_than_can_be_is_refused(at: int, what: str) -> None:
    row = MailboxRow(1, b"box", True, b"a box", 60, 1, 2)
    body = bytearray(row.pack()[:-4])
    body[at] = 255
    with pytest.raises(DamagedError, match=what):
        MailboxRow.unpack(row.key, seal_row(row.key, bytes(body)))


@pytest.mark.parametrize("records", [1, 2, 2**20, 2**32 - 1])
def test_a_block_that_says_it_has_more_records_than_fit_is_refused(records: int) -> None:
    data = bytearray(32 + 40)
    seal_block(data, 7, records, 0)
    loading = Loading(PostOffice(0, lambda: None, lambda event, mailbox: None, lambda: None))
    with pytest.raises(DamagedError, match="a record that does not fit"):
        loading.load_block(7, bytes(data), 0)
