"""What a user may publish and subscribe to: the lists, the words for mailboxes, and the arithmetic of subjects under them."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq9.routing.subjects import covers, matches, meet, valid_for_subscribe
from mq9.server.permissions import OPERATIONS, Permissions

TOKENS = ("a", "b", "*", ">")
SUBJECTS = [
    subject.encode()
    for length in (1, 2, 3)
    for subject in map(".".join, product(TOKENS, repeat=length))
    if valid_for_subscribe(subject.encode())
]
# One more token than any pattern has, so that `>` is told from a row of `*`; `c` is in none of them.
LITERALS = [".".join(tokens).encode() for length in (1, 2, 3, 4) for tokens in product("abc", repeat=length)]
TAKEN = {subject: frozenset(literal for literal in LITERALS if matches(subject, literal)) for subject in SUBJECTS}
MAIL = b"$mq9.AI.MAILBOX."


def test_a_subject_covers_another_when_it_gets_all_that_that_gets() -> None:
    for wider, narrower in product(SUBJECTS, repeat=2):
        assert covers(wider, narrower) == (TAKEN[narrower] <= TAKEN[wider]), (wider, narrower)


def test_subjects_meet_when_there_is_something_that_both_get() -> None:
    for one, other in product(SUBJECTS, repeat=2):
        assert meet(one, other) == bool(TAKEN[one] & TAKEN[other]), (one, other)


@given(
    allow=st.none() | st.lists(st.sampled_from(SUBJECTS), max_size=3),
    deny=st.lists(st.sampled_from(SUBJECTS), max_size=12),
    subject=st.sampled_from(SUBJECTS),
    queue=st.none() | st.just(b"q"),
)
def test_nothing_is_delivered_that_is_not_allowed(
    allow: list[bytes] | None, deny: list[bytes], subject: bytes, queue: bytes | None
) -> None:
    lists = (None if allow is None else [entry.decode() for entry in allow], [entry.decode() for entry in deny])
    permissions = Permissions(subscribe=lists, publish=lists)
    allowed = {literal for literal in LITERALS if allow is None or any(matches(entry, literal) for entry in allow)}
    allowed -= {literal for literal in LITERALS if any(matches(entry, literal) for entry in deny)}
    if permissions.subscribes(subject, queue):
        delivered = {literal for literal in TAKEN[subject] if not permissions.hides(subject, queue, literal)}
        assert delivered == TAKEN[subject] & allowed
    else:
        # What is refused is not allowed as a whole, or denied as it is written.
        assert not TAKEN[subject] <= allowed or any(matches(entry, subject) for entry in deny)
    for literal in LITERALS:
        assert permissions.publishes(literal) == (literal in allowed)
        assert permissions.publishes(literal) == (literal in allowed), "found out, and remembered"


@pytest.mark.parametrize(
    ("allow", "queue", "allowed"),
    [
        (["jobs"], None, True),
        (["jobs"], b"any", True),
        (["jobs v1"], None, False),
        (["jobs v1"], b"v1", True),
        (["jobs v1"], b"v2", False),
        (["jobs v.*"], b"v.2", True),
        (["jobs v.*"], b"v", False),
        (["jobs", "jobs v1"], None, True),
        (["jobs", "jobs v1"], b"v2", False),
        (["*", "jobs v1"], b"v1", True),
        (["> v1"], b"v1", True),
        (["other v1"], b"v1", False),
    ],
)
def test_queue_names_in_what_is_allowed(allow: list[str], queue: bytes | None, allowed: bool) -> None:
    assert Permissions(subscribe=(allow, ())).subscribes(b"jobs", queue) is allowed


def test_queue_names_in_what_is_denied() -> None:
    permissions = Permissions(subscribe=(None, ["jobs.* v1"]))
    assert permissions.subscribes(b"jobs.a")
    assert permissions.subscribes(b"jobs.a", b"v2")
    assert not permissions.subscribes(b"jobs.a", b"v1")
    assert permissions.hides(b">", b"v1", b"jobs.a")
    assert not permissions.hides(b">", b"v2", b"jobs.a")
    assert not permissions.hides(b">", None, b"jobs.a")


def test_many_patterns_are_looked_through_once_for_each_subject() -> None:
    permissions = Permissions(publish=([f"a.{number}.>" for number in range(1000)], ["a.7.no"]))
    for _ in range(2):
        assert permissions.publishes(b"a.999.x")
        assert permissions.publishes(b"a.7.x")
        assert not permissions.publishes(b"a.7.no")
        assert not permissions.publishes(b"a.1000.x")
    # More subjects than are remembered, and longer ones than are.
    assert all(permissions.publishes(b"a.%d.%d" % (number % 1000, number)) for number in range(10_000))
    assert permissions.publishes(b"a.1." + b"x" * 1000)


PUBLISHED = {
    "create": [b"CREATE"],
    "send": [b"MSG.box", b"MSG.box.high"],
    "receive": [b"LIST.box"],
    "delete": [b"DELETE.box.1", b"REMOVE.box"],
    "list": [],
}
OTHERS = {
    "create": [],
    "send": [b"$mq9.AI.MSG.SEND.box", b"$mq9.AI.MSG.STATUS.box.1"],
    "receive": [
        b"$mq9.AI.MSG.QUERY.box",
        b"$mq9.AI.MSG.FETCH.box",
        b"$mq9.AI.MSG.ACK.box",
        b"$mq9.AI.MSG.STATUS.box.1",
    ],
    "delete": [b"$mq9.AI.MSG.DELETE.box.1"],
    "list": [b"$mq9.AI.PUBLIC.LIST"],
}
SUBSCRIBED = {
    "create": [],
    "send": [],
    "receive": [MAIL + b"MSG.box", MAIL + b"MSG.box.*", MAIL + b"MSG.box.high", MAIL + b"EVENTS.box"],
    "delete": [],
    "list": [b"$mq9.AI.PUBLIC.LIST"],
}
WORDS = tuple(PUBLISHED)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_allows_its_operation_and_no_other(word: str) -> None:
    permissions = Permissions(mailboxes=[word])
    of_word = {*(MAIL + rest for rest in PUBLISHED[word]), *OTHERS[word]}
    for other in WORDS:
        for subject in (*(MAIL + rest for rest in PUBLISHED[other]), *OTHERS[other]):
            assert permissions.publishes(subject) == (subject in of_word), subject
        for subject in SUBSCRIBED[other]:
            assert permissions.subscribes(subject) == (subject in SUBSCRIBED[word]), subject
    assert permissions.publishes(b"orders.new")
    assert permissions.subscribes(b"orders.>")
    assert permissions.subscribes(b"_INBOX.x.*")


def test_all_words_are_known_and_all_is_everything() -> None:
    assert {*WORDS, "all"} == set(OPERATIONS)
    permissions = Permissions(mailboxes=["all"])
    assert permissions.publishes(b"$mq9.AI.anything")
    assert permissions.subscribes(b"$mq9.>")
    assert not Permissions(mailboxes=[]).publishes(MAIL + b"CREATE")


def test_words_and_lists_together() -> None:
    permissions = Permissions(
        publish=([">", MAIL.decode() + "LIST.mine"], [MAIL.decode() + "MSG.closed.>", MAIL.decode() + "MSG.closed"]),
        mailboxes=["send"],
    )
    assert permissions.publishes(MAIL + b"MSG.open")
    assert not permissions.publishes(MAIL + b"MSG.closed"), "what is denied is denied, whatever allows it"
    assert not permissions.publishes(MAIL + b"MSG.closed.high")
    assert permissions.publishes(MAIL + b"LIST.mine"), "an entry that begins with $mq9. is meant for there"
    assert not permissions.publishes(MAIL + b"LIST.yours"), "> is not"
    assert permissions.publishes(b"anything.else")


def test_lists_alone_hold_for_mailboxes_as_for_everything() -> None:
    permissions = Permissions(publish=(["orders.>"], ()), subscribe=(["_INBOX.>"], ()))
    assert not permissions.publishes(MAIL + b"CREATE")
    assert not permissions.subscribes(MAIL + b"MSG.box")
    assert Permissions(publish=([">"], ())).publishes(MAIL + b"CREATE")


def test_responses_alone_allow_no_other_publish() -> None:
    permissions = Permissions(responses=(1, 120.0))
    assert permissions.allow_responses
    assert not permissions.publishes(b"anything")
    assert Permissions(publish=(["some.>"], ()), responses=(1, 120.0)).publishes(b"some.thing")
