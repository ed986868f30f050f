"""Mailboxes by clients that have never heard of them: nats-py and the `nats` command line tool, with plain subjects."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import nats
import pytest

from tests.clients.command import PATIENCE_S, Tool, ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from tests.support.broker import BrokerProcess

MAILBOX = "$mq9.AI.MAILBOX"


@pytest.fixture
def tool(broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """The `nats` command, for a broker."""
    return Tool(broker, tmp_path_factory.mktemp("home"))


async def asked(client: Client, subject: str, body: dict[str, Any] | bytes = b"") -> dict[str, Any]:
    """The answer to a request."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads((await client.request(subject, payload, PATIENCE_S)).data)
    return answer


def run(broker: BrokerProcess, body: Callable[[Client, list[str]], Awaitable[None]]) -> None:
    """Run a coroutine with a client of `broker`, and the texts of the errors that the client hears of."""

    async def main() -> None:
        heard: list[str] = []

        async def keep(error: Exception) -> None:
            heard.append(str(error))

        client = await nats.connect(broker.url, error_cb=keep, allow_reconnect=False)
        try:
            await asyncio.wait_for(body(client, heard), PATIENCE_S)
            assert client.is_connected
        finally:
            await client.close()

    asyncio.run(main())


def test_a_message_waits_for_its_receiver(broker: BrokerProcess) -> None:
    async def body(client: Client, heard: list[str]) -> None:
        mail_id = (await asked(client, f"{MAILBOX}.CREATE"))["mail_id"]
        sent = [
            (await asked(client, f"{MAILBOX}.MSG.{mail_id}{level}", b"to%b" % level.encode()))["msg_id"]
            for level in (".low", "", ".high")
        ]
        got: asyncio.Queue[Msg] = asyncio.Queue()
        subscription = await client.subscribe(f"{MAILBOX}.MSG.{mail_id}.*", cb=got.put)
        messages = [await got.get() for _ in sent]
        assert [message.data for message in messages] == [b"to.high", b"to", b"to.low"]
        assert [int(message.headers["mq9-msg-id"]) for message in messages if message.headers] == sent[::-1]
        assert [message.headers["mq9-priority"] for message in messages if message.headers] == ["high", "normal", "low"]
        await client.publish(f"{MAILBOX}.MSG.{mail_id}", b"live", headers={"mq9-priority": "urgent", "my": "own"})
        live = await got.get()
        assert live.headers is not None
        assert (live.data, live.headers["mq9-priority"], live.headers["my"]) == (b"live", "urgent", "own")
        await subscription.unsubscribe()
        page = await asked(client, f"{MAILBOX}.LIST.{mail_id}", {"limit": 2})
        assert [message["payload"] for message in page["messages"]] == ["to.low", "to"]
        assert heard == []

    run(broker, body)


def test_a_refusal_is_heard_and_the_client_stays(broker: BrokerProcess) -> None:
    async def body(client: Client, heard: list[str]) -> None:
        await client.publish(f"{MAILBOX}.MSG.nobody", b"hello")
        await client.subscribe(f"{MAILBOX}.MSG.nobody")
        await client.flush()
        await client.flush()
        assert [text for text in heard if "permissions violation" not in text.lower()] == []
        assert len(heard) == 2
        reply = await client.request(f"{MAILBOX}.LIST.nobody", b"", PATIENCE_S)
        assert reply.headers is not None
        assert reply.headers["Nats-Service-Error-Code"] == "404"
        assert json.loads(reply.data) == {"error": reply.headers["Nats-Service-Error"], "code": 404}

    run(broker, body)


@pytest.mark.parametrize("old_style", [False, True], ids=["one inbox for all", "an inbox for each"])
def test_many_sends_at_a_time_are_each_answered(broker: BrokerProcess, old_style: bool) -> None:
    async def body(client: Client, heard: list[str]) -> None:
        mail_id = (await asked(client, f"{MAILBOX}.CREATE"))["mail_id"]
        subject = f"{MAILBOX}.MSG.{mail_id}"
        replies = await asyncio.gather(
            *(client.request(subject, b"%d" % number, PATIENCE_S, old_style=old_style) for number in range(200))
        )
        ids = [json.loads(reply.data)["msg_id"] for reply in replies]
        assert len(set(ids)) == 200
        stored: dict[int, str] = {}
        after = 0
        while len(stored) < 200:
            page = await asked(client, f"{MAILBOX}.LIST.{mail_id}", {"limit": 64, "after": after})
            stored |= {message["msg_id"]: message["payload"] for message in page["messages"]}
            after = page["next"] or 2**64 - 1
        assert [stored[msg_id] for msg_id in ids] == [str(number) for number in range(200)]
        assert heard == []

    run(broker, body)


def test_the_command_line_tool_uses_a_mailbox(tool: Tool, unique: Callable[[str], str]) -> None:
    name = unique("desk")
    assert json.loads(tool("req", f"{MAILBOX}.CREATE", json.dumps({"name": name}), "--raw"))["mail_id"] == name
    tool("req", f"{MAILBOX}.MSG.{name}.low", "later")
    assert json.loads(tool("req", f"{MAILBOX}.MSG.{name}", "next", "--raw")).keys() == {
        "msg_id",
        "pending",
        "receivers",
    }
    tool("req", f"{MAILBOX}.MSG.{name}", "first", "-H", "mq9-priority:high")
    said = tool("sub", f"{MAILBOX}.MSG.{name}", "--count", "3", "--raw")
    assert [line for line in said.splitlines() if line in {"first", "next", "later"}] == ["first", "next", "later"]
    listed = json.loads(tool("req", f"{MAILBOX}.LIST.{name}", "", "--raw"))
    assert [message["payload"] for message in listed["messages"]] == ["later", "next", "first"]
    assert json.loads(tool("req", f"{MAILBOX}.REMOVE.{name}", "", "--raw")) == {"deleted": True}
    assert json.loads(tool("req", f"{MAILBOX}.LIST.{name}", "", "--raw"))["code"] == 404


def test_the_command_line_tool_hears_what_comes_while_it_waits(tool: Tool, unique: Callable[[str], str]) -> None:
    name = unique("live")
    tool("req", f"{MAILBOX}.CREATE", json.dumps({"name": name}), "--raw")
    subject = f"{MAILBOX}.MSG.{name}"
    with tool.started("sub", subject, "--count", "2", "--raw", probe=subject) as subscriber:
        tool("pub", subject, "while you wait")
        assert ended(subscriber).splitlines()[-2:] == ["ready", "while you wait"]
