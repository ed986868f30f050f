"""Data directories of every format that there ever was: this version opens them and finds everything that was put there.

`python -m tools.make_data_dir tests/data` made each of them with the version whose format it has.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from mq9.store.contract import FORMAT_VERSION
from tests.store.post import MAILBOX, Mail, Post, delivery_order
from tests.support.broker import BrokerProcess
from tests.support.secrets import password
from tools.make_data_dir import make

HERE: Final = Path(__file__).parent
VERSIONS: Final = range(1, FORMAT_VERSION + 1)


def listing(version: int, directory: Path = HERE) -> dict[str, Any]:
    """What is in the data directory of a version."""
    said: dict[str, Any] = json.loads((directory / f"format-{version}.json").read_text("utf-8"))
    return said


def mail_of(message: dict[str, Any]) -> Mail:
    """A message of the listing as a receiver is given it."""
    headers = tuple((name, value) for name, values in message["headers"].items() for value in values)
    return Mail(message["msg_id"], message["priority"], base64.b64decode(message["payload"]), headers)


def readable(said: dict[str, Any], owner: str = "") -> dict[str, Any]:
    """The mailboxes that `owner` alone may read, or, for nobody in particular, those that everybody may."""
    owned = said.get("owned", {})
    return {mail_id: box for mail_id, box in said["mailboxes"].items() if owned.get(mail_id, "") == owner}


def check(post: Post, said: dict[str, Any]) -> None:
    """Everything that is listed is there, as it was; nothing that has ended is."""
    for mail_id in said.get("owned", ()):
        assert post.ask(f"{MAILBOX}.LIST.{mail_id}")["code"] == 403
    for mail_id, box in readable(said).items():
        mails = [mail_of(message) for message in box["messages"]]
        assert post.fetch(mail_id) == mails
        assert post.receive(mail_id, len(mails)) == delivery_order(mails)
        for item, message in zip(post.pages(mail_id, limit=3), box["messages"], strict=True):
            for key in ("msg_id", "priority", "create_time", "expires_at", "headers"):
                assert item[key] == message[key]
        if not mail_id.startswith("m-"):
            answer = post.create(name=mail_id, desc="not taken over", ttl=5)
            assert answer["is_new"] is False
            assert {key: answer[key] for key in ("public", "ttl", "created_at", "expires_at")} == {
                key: box[key] for key in ("public", "ttl", "created_at", "expires_at")
            }
    for mail_id, receipts in said.get("receipts", {}).items():
        for msg_id, expected in receipts.items():
            receipt = post.ask(f"$mq9.AI.MSG.STATUS.{mail_id}.{msg_id}")
            assert {key: receipt[key] for key in expected} == expected, msg_id
    for mail_id in said["ended"]:
        assert post.ask(f"{MAILBOX}.LIST.{mail_id}")["code"] == 404
    public = {mail_id: box for mail_id, box in said["mailboxes"].items() if box["public"]}
    listed = post.listed()
    assert listed.keys() == public.keys()
    for mail_id, box in public.items():
        expected = {key: box[key] for key in ("desc", "ttl", "created_at", "expires_at")}
        assert {key: listed[mail_id][key] for key in expected} == expected
        assert listed[mail_id]["messages"] == len(box["messages"])


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_is_found(version: int, tmp_path: Path) -> None:
    said = listing(version)
    shutil.copytree(HERE / f"format-{version}", tmp_path / "data")
    with BrokerProcess(tmp_path / "data") as broker:
        with Post(broker.url) as post:
            check(post, said)
        assert "ERROR" not in broker.log()
        assert broker.stop() == 0
        broker.start()
        with Post(broker.url) as post:
            check(post, said)
            msg_id = post.send("archive", b"and it goes on")["msg_id"]
            assert msg_id > said["msg_id_highest"]
            assert post.fetch("archive")[-1] == Mail(msg_id, "normal", b"and it goes on")


def test_owners_are_found(tmp_path: Path) -> None:
    said = listing(4)
    shutil.copytree(HERE / "format-4", tmp_path / "data")
    config = tmp_path / "mq9.toml"
    users = ("alice", "bob")
    config.write_text("".join(f'[[users]]\nname = "{name}"\npassword = "{name}"\n' for name in users))
    with BrokerProcess(tmp_path / "data", arguments=["--config", str(config)]) as broker:
        with Post(broker.url, **password("alice")) as post:
            owned = readable(said, "alice")
            assert len(owned) == 2
            for mail_id, box in owned.items():
                assert post.fetch(mail_id) == [mail_of(message) for message in box["messages"]]
        with Post(broker.url, **password("bob")) as post:
            assert [post.ask(f"{MAILBOX}.LIST.{mail_id}")["code"] for mail_id in owned] == [403, 403]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_listing_has_what_it_is_for(version: int) -> None:
    said = listing(version)
    boxes = said["mailboxes"]
    messages = [message for box in boxes.values() for message in box["messages"]]
    assert said["format"] == version
    assert {box["public"] for box in boxes.values()} == {True, False}
    assert 0 in {box["ttl"] for box in boxes.values()}
    assert any(mail_id.startswith("m-") for mail_id in boxes)
    assert {message["priority"] for message in messages} == {"critical", "urgent", "high", "normal", "low"}
    assert any(message["expires_at"] for message in messages if "mq9-ttl" in message["headers"])
    assert len(said["ended"]) == 3
    size = sum(path.stat().st_size for path in (HERE / f"format-{version}").rglob("*"))
    assert size < 200_000


def test_the_tool_still_makes_it(tmp_path: Path) -> None:
    asyncio.run(make(tmp_path))

    def with_private_ids_alike(said: dict[str, Any]) -> str:
        text = json.dumps(said)
        private = [mail_id for mail_id in (*said["mailboxes"], *said["ended"]) if mail_id.startswith("m-")]
        for number, mail_id in enumerate(private):
            text = text.replace(mail_id, f"m-{number}")
        return text

    made, kept = listing(FORMAT_VERSION, tmp_path), listing(FORMAT_VERSION)
    assert with_private_ids_alike(made) == with_private_ids_alike(kept)
