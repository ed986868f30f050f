"""What the operations answer with: mailboxes and pages."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime

import pytest

from mq9 import BadRequest, GroupStatus, MailboxInfo, Page, Status
from mq9.protocol import masked
from mq9.sdk.values import moment

PRIVATE = "m-" + "a2" * 13
ANSWER = {
    "mail_id": PRIVATE,
    "mail_address": PRIVATE,
    "is_new": True,
    "public": False,
    "ttl": 3600,
    "created_at": 1_700_000_000,
    "expires_at": 1_700_003_600,
}


def test_a_mailbox_is_its_mail_id() -> None:
    box = MailboxInfo(ANSWER)
    assert box == PRIVATE
    assert box.mail_id == PRIVATE
    assert box["mail_id"] == PRIVATE
    assert f"to {box}" == f"to {PRIVATE}"
    assert json.loads(json.dumps({"from": box})) == {"from": PRIVATE}


def test_a_mailbox_tells_what_the_broker_said() -> None:
    box = MailboxInfo(ANSWER)
    assert box["ttl"] == box.ttl == 3600
    assert box["expires_at"] == 1_700_003_600
    assert box.expires_at == datetime.fromtimestamp(1_700_003_600, UTC)
    assert box.created_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert box.is_new is True
    assert box.public is False
    assert box.messages is None
    assert box.get("nothing", "default") == "default"
    with pytest.raises(KeyError):
        box["nothing"]


def test_a_mailbox_has_an_address_for_senders() -> None:
    drop = "d-" + "c3" * 13
    box = MailboxInfo({**ANSWER, "drop_id": drop})
    assert box.drop_id == box["drop_id"] == drop
    assert drop not in repr(box)
    with pytest.raises(BadRequest, match="drop_id"):
        MailboxInfo(ANSWER).drop_id  # noqa: B018 - the access is the test


def test_a_mailbox_without_an_end_has_no_expiry() -> None:
    for end in (None, 0):
        assert MailboxInfo({"mail_id": "q", "ttl": 0, "expires_at": end}).expires_at is None


def test_a_mailbox_is_still_a_string_to_slice() -> None:
    assert MailboxInfo(ANSWER)[:2] == "m-"
    assert MailboxInfo(ANSWER)[0] == "m"


def test_the_repr_of_a_private_mailbox_keeps_its_secret() -> None:
    assert PRIVATE not in repr(MailboxInfo(ANSWER))
    assert "m-a2a2…" in repr(MailboxInfo(ANSWER))
    assert "task.queue" in repr(MailboxInfo({"mail_id": "task.queue", "public": True}))


def test_a_mailbox_survives_pickling() -> None:
    box = pickle.loads(pickle.dumps(MailboxInfo(ANSWER)))  # noqa: S301 - our own bytes
    assert box == PRIVATE
    assert box.ttl == 3600


def test_private_mail_ids_are_masked_wherever_they_stand() -> None:
    assert masked(f'{{"from": "{PRIVATE}", "to": "x.{PRIVATE}"}}').count(PRIVATE) == 0
    assert masked("send it to d-" + "c3" * 13) == "send it to d-c3c3…"
    assert masked("m-short and task.queue") == "m-short and task.queue"


def test_a_moment_that_no_clock_knows_is_none() -> None:
    assert moment(None) is None
    assert moment(float("nan")) is None
    assert moment(1e300) is None


def test_a_page_is_a_list_with_the_way_on() -> None:
    assert Page([1, 2], 2) == [1, 2]
    assert Page([1, 2], 2).next == 2
    assert Page().next is None


def test_a_status_says_what_the_broker_said() -> None:
    answer = {"msg_id": 7, "state": "stored", "offered": True, "groups": {"g": {"state": "leased", "attempts": 2}}}
    status = Status.told(answer)
    assert status == Status(7, "stored", offered=True, groups={"g": GroupStatus("leased", 2)})
    assert status.groups["g"].attempts == 2
