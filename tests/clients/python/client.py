"""Plays the scenarios of tests/clients/README.md with nats-py, and prints one line of JSON for each."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

PATIENCE_S: Final = 15.0
MAILBOX: Final = "$mq9.AI.MAILBOX."

Result = dict[str, Any]


def say(line: Result) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def ignore(_error: Exception) -> None:
    """What goes wrong in the background is seen in what comes of it."""


async def connect(**options: Any) -> Client:
    patient = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.05, "connect_timeout": PATIENCE_S}
    return await nats.connect(os.environ["NATS_URL"], **{"error_cb": ignore} | patient | options)


async def restart(again: asyncio.Event) -> None:
    """Have the server stopped and started again, and come back when the client is connected anew."""
    say({"ask": "restart"})
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.wait_for(again.wait(), PATIENCE_S)


async def connect_to_come_back() -> tuple[Client, asyncio.Event]:
    again = asyncio.Event()

    async def reconnected() -> None:
        again.set()

    return await connect(reconnected_cb=reconnected), again


async def settled(*clients: Client) -> None:
    """Wait until the server has dealt with all that `clients` have said: a first flush may overtake what is not written yet."""
    for client in clients:
        await client.flush()
        await client.flush()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is counted by callbacks of many kinds
            await asyncio.sleep(0.001)


async def following(subscription: Subscription) -> Msg:
    return await subscription.next_msg(PATIENCE_S)


async def ask(client: Client, subject: str, body: Result | bytes = b"") -> Any:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.loads((await client.request(subject, payload, PATIENCE_S)).data)


# core NATS


async def connecting() -> Result:
    client = await connect()
    try:
        return {
            "max_payload": client.max_payload,
            "has_client_id": (client.client_id or 0) > 0,
            "headers": client._server_info["headers"],
        }
    finally:
        await client.close()


async def publish_subscribe() -> Result:
    client = await connect()
    subscription = await client.subscribe("flow.a")
    for number in range(500):
        await client.publish("flow.a", b"%d" % number)
    await client.publish("flow.a", bytes(client.max_payload))
    await client.publish("flow.a", b"")
    found = [(await following(subscription)).data for _ in range(502)]
    await client.close()
    return {
        "in_order": found[:500] == [b"%d" % number for number in range(500)],
        "largest": len(found[500]),
        "empty": len(found[501]),
    }


async def wildcards() -> Result:
    client = await connect()
    subscriptions = [await client.subscribe(pattern) for pattern in ("wild.*.end", "wild.>")]
    for subject in ("wild.a.end", "wild.b.c", "wild", "other.a.end", "wild.last.end"):
        await client.publish(subject)
    found = []
    for subscription in subscriptions:
        subject = ""
        while subject != "wild.last.end":
            subject = (await following(subscription)).subject
            found.append(f"{subscription.subject} {subject}")
    await client.close()
    return {"got": sorted(found)}


async def queues() -> Result:
    first, second = await connect(), await connect()
    counts = [0] * 5

    async def subscribe(client: Client, queue: str, at: int) -> None:
        async def count(_message: Msg) -> None:
            counts[at] += 1

        await client.subscribe("jobs", queue=queue, cb=count)

    for at, (client, queue) in enumerate(
        [(first, "workers"), (first, "workers"), (second, "workers"), (second, "auditors"), (first, "")]
    ):
        await subscribe(client, queue, at)
    await settled(first, second)
    for _ in range(120):
        await first.publish("jobs", b"job")
    await until(lambda: sum(counts[:3]) >= 120 and counts[3] >= 120 and counts[4] >= 120)
    await settled(first, second)
    await first.close()
    await second.close()
    return {"workers": sum(counts[:3]), "auditors": counts[3], "plain": counts[4], "all_worked": all(counts[:3])}


async def requests(old_style: bool) -> Result:
    client, service = await connect(), await connect()

    async def answer(message: Msg) -> None:
        await message.respond(b"to " + message.data)

    await service.subscribe("service.echo", cb=answer)
    await settled(service)
    answers = await asyncio.gather(
        *(client.request("service.echo", b"%d" % number, PATIENCE_S, old_style=old_style) for number in range(50))
    )
    await client.close()
    await service.close()
    return {"right": sum(answer.data == b"to %d" % number for number, answer in enumerate(answers))}


async def headers() -> Result:
    client = await connect()
    subscription = await client.subscribe("headed")
    await client.publish("headed", b"body", headers={"X-Case": "Kept", "lower": "a: b"})
    await client.publish("headed", b"", headers={"only": "this"})
    await client.publish("headed", b"none")
    first, second, third = [await following(subscription) for _ in range(3)]
    await client.close()
    return {
        "first": first.headers,
        "bodies": [message.data.decode() for message in (first, second, third)],
        "only": (second.headers or {})["only"],
        "none": third.headers is None,
    }


async def header_empty() -> Result:
    client = await connect()
    subscription = await client.subscribe("headed.empty")
    await client.publish("headed.empty", b"", headers={"empty": ""})
    value = ((await following(subscription)).headers or {})["empty"]
    await client.close()
    return {"values": [value]}


async def no_responders() -> Result:
    client = await connect()
    try:
        await client.request("nobody.is.there", b"", PATIENCE_S)
    except nats.errors.NoRespondersError:
        return {"no_responders": True}
    finally:
        await client.close()
    return {"no_responders": False}


async def unsubscribe() -> Result:
    client = await connect()
    limited = 0

    async def count(_message: Msg) -> None:
        nonlocal limited
        limited += 1

    subscription = await client.subscribe("few", cb=count)
    await subscription.unsubscribe(limit=3)
    witness = await client.subscribe("few")
    for number in range(10):
        await client.publish("few", b"%d" % number)
    for _ in range(10):
        await following(witness)
    await until(lambda: limited == 3)
    await settled(client)
    await client.close()
    return {"limited": limited, "witness": 10}


async def no_echo() -> Result:
    quiet, other = await connect(no_echo=True), await connect()
    subscription = await quiet.subscribe("echoes")
    await quiet.publish("echoes", b"mine")
    await settled(quiet)
    await other.publish("echoes", b"theirs")
    got = (await following(subscription)).data.decode()
    await quiet.close()
    await other.close()
    return {"got": got}


async def drain() -> Result:
    receiver, publisher = await connect(), await connect()
    handled = 0

    async def count(_message: Msg) -> None:
        nonlocal handled
        handled += 1

    await receiver.subscribe("drained", cb=count)
    await settled(receiver)
    for _ in range(200):
        await publisher.publish("drained", b"x")
    await settled(publisher, receiver)
    await receiver.drain()
    await publisher.close()
    return {"handled": handled, "closed": receiver.is_closed}


async def reconnect() -> Result:
    client, again = await connect_to_come_back()
    plain, queue = await client.subscribe("again.a"), await client.subscribe("again.q", queue="group")
    wild, limited = await client.subscribe("again.w.*"), await client.subscribe("again.a")
    await limited.unsubscribe(limit=3)

    async def play_round() -> list[str]:
        for subject in ("again.a", "again.q", "again.w.x"):
            await client.publish(subject, b"x")
        found = [(await following(subscription)).subject for subscription in (plain, queue, wild)]
        await following(limited)
        return found

    before = await play_round()
    await restart(again)
    after = await play_round()
    await client.publish("again.a", b"x")
    await following(limited)
    await client.publish("again.a", b"x")
    await settled(client)
    ended = limited.pending_msgs == 0
    await client.close()
    return {"before": before, "after": after, "limited_has_ended": ended}


# mailboxes


async def create(client: Client, name: str, public: bool = False) -> str:
    return str((await ask(client, f"{MAILBOX}CREATE", {"name": name, "public": public, "ttl": 3600}))["mail_id"])


async def send(client: Client, mail_id: str, priority: str, payload: bytes) -> int:
    return int((await ask(client, f"{MAILBOX}MSG.{mail_id}{priority}", payload))["msg_id"])


def payloads(answer: Result) -> list[str]:
    return [message["payload"] for message in answer["messages"]]


async def mailbox_create() -> Result:
    client = await connect()
    private = await ask(client, f"{MAILBOX}CREATE")
    first = await ask(client, f"{MAILBOX}CREATE", {"name": "create.one", "ttl": 60})
    second = await ask(client, f"{MAILBOX}CREATE", {"name": "create.one", "ttl": 90})
    await client.close()
    return {
        "private": re.fullmatch(r"m-[a-z2-7]{26}", private["mail_id"]) is not None,
        "name": first["mail_id"],
        "is_new": [private["is_new"], first["is_new"], second["is_new"]],
        "ttl": second["ttl"],
    }


def shown(message: Msg) -> str:
    return f"{(message.headers or {})['mq9-priority']} {message.data.decode()}"


async def mailbox_receive() -> Result:
    client = await connect()
    name = await create(client, "receive.one")
    low = await send(client, name, ".low", b"later")
    normal = await send(client, name, "", b"next")
    own = {"mq9-priority": "high", "my-own": "kept"}
    answer = await client.request(f"{MAILBOX}MSG.{name}", b"first", PATIENCE_S, headers=own)
    ids = [json.loads(answer.data)["msg_id"], normal, low]
    every = await client.subscribe(f"{MAILBOX}MSG.{name}.*")
    high = await client.subscribe(f"{MAILBOX}MSG.{name}.high")
    messages = [await following(every) for _ in range(3)]
    of_each = [message.headers or {} for message in messages]
    await client.publish(f"{MAILBOX}MSG.{name}.urgent", b"live")
    live = shown(await following(every))
    await send(client, name, ".high", b"again")
    result = {
        "got": [shown(message) for message in messages],
        "right": [int(each["mq9-msg-id"]) for each in of_each] == ids and of_each[0]["my-own"] == "kept",
        "pending": of_each[2]["mq9-pending"],
        "live": live,
        "high": [(await following(high)).data.decode() for _ in range(2)],
    }
    await client.close()
    return result


async def mailbox_fetch() -> Result:
    client = await connect()
    name = await create(client, "fetch.one")
    for payload in (b"a", b"b", b"c"):
        await send(client, name, "", payload)
    first = await ask(client, f"{MAILBOX}LIST.{name}", {"limit": 2})
    second = await ask(client, f"{MAILBOX}LIST.{name}", {"limit": 2, "after": first["next"]})
    await client.close()
    return {"pages": [payloads(first), payloads(second)], "end": second["next"] is None}


async def mailbox_delete() -> Result:
    client = await connect()
    name = await create(client, "delete.one")
    msg_id = await send(client, name, "", b"a")
    await send(client, name, "", b"b")
    deleted = [(await ask(client, f"{MAILBOX}DELETE.{name}.{msg_id}"))["deleted"] for _ in range(2)]
    left = payloads(await ask(client, f"{MAILBOX}LIST.{name}"))
    removed = (await ask(client, f"{MAILBOX}REMOVE.{name}"))["deleted"]
    refusal = await client.request(f"{MAILBOX}LIST.{name}", b"", PATIENCE_S)
    await client.close()
    code = (refusal.headers or {})["Nats-Service-Error-Code"]
    return {"deleted": deleted, "left": left, "removed": removed, "code": code}


async def mailbox_list() -> Result:
    client = await connect()
    await create(client, "list.one", public=True)
    subscription = await client.subscribe("$mq9.AI.PUBLIC.LIST")

    async def event() -> str:
        said = json.loads((await following(subscription)).data)
        return f"{said['event']} {said['mail_id']}"

    events = [await event()]
    await create(client, "list.two", public=True)
    events.append(await event())
    listed = (await ask(client, "$mq9.AI.PUBLIC.LIST", {"prefix": "list."}))["mailboxes"]
    await ask(client, f"{MAILBOX}REMOVE.list.two")
    events.append(await event())
    await ask(client, f"{MAILBOX}REMOVE.list.one")
    await client.close()
    return {"events": events, "listed": [each["mail_id"] for each in listed]}


async def fetch_work(client: Client, name: str, count: int) -> tuple[list[str], list[int]]:
    request = {"group_name": "workers", "lease_ms": 60_000, "config": {"num_msgs": count, "max_wait_ms": 0}}
    messages = (await ask(client, f"$mq9.AI.MSG.FETCH.{name}", request))["messages"]
    return (
        [f"{base64.b64decode(each['payload']).decode()} {each['attempt']}" for each in messages],
        [each["msg_id"] for each in messages],
    )


async def acknowledge(client: Client, name: str, op: str, ids: list[int]) -> Any:
    return (await ask(client, f"$mq9.AI.MSG.ACK.{name}", {"group_name": "workers", "msg_ids": ids, "op": op}))["error"]


async def mailbox_work() -> Result:
    client = await connect()
    name = await create(client, "work.one")
    for payload in (b"a", b"b", b"c"):
        await send(client, name, "", payload)
    first, ids = await fetch_work(client, name, 2)
    acked = await acknowledge(client, name, "ack", ids[:1])
    nacked = await acknowledge(client, name, "nack", ids[1:])
    second, third = await fetch_work(client, name, 10), await fetch_work(client, name, 10)
    await client.close()
    return {"first": first, "acked": acked, "nacked": nacked, "second": second[0], "third": third[0]}


async def mailbox_workers() -> Result:
    first, second = await connect(), await connect()
    name = await create(first, "workers.one")
    found: list[bytes] = []

    async def keep(message: Msg) -> None:
        found.append(message.data)

    for client in (first, second):
        await client.subscribe(f"{MAILBOX}MSG.{name}", queue="workers", cb=keep)
        await settled(client)
    for number in range(40):
        await send(first, name, "", b"%d" % number)
    await until(lambda: len(set(found)) == 40)
    await settled(first, second)
    await first.close()
    await second.close()
    return {"handled": len(found)}


async def refusals(subject: str, **options: Any) -> tuple[Client, list[str]]:
    """A client that has published to a `subject` that is refused, and what it has heard of that."""
    heard: list[str] = []

    async def keep(error: Exception) -> None:
        heard.append(str(error).lower())

    client = await connect(error_cb=keep, **options)
    await client.publish(subject, b"hello")
    await until(lambda: len(heard) == 1)
    return client, heard


def violations(heard: list[str]) -> int:
    return sum("permissions violation" in text for text in heard)


async def mailbox_refusal() -> Result:
    client, heard = await refusals(f"{MAILBOX}MSG.nobody")
    await settled(client)
    connected = client.is_connected
    await client.close()
    return {"heard": violations(heard), "connected": connected}


async def mailbox_restart() -> Result:
    client, again = await connect_to_come_back()
    name = await create(client, "restart.one")
    subscription = await client.subscribe(f"{MAILBOX}MSG.{name}.*")

    async def several(count: int) -> list[str]:
        return [(await following(subscription)).data.decode() for _ in range(count)]

    await send(client, name, "", b"a")
    await send(client, name, "", b"b")
    before = await several(2)
    await restart(again)
    await send(client, name, "", b"c")
    after = await several(3)
    stored = payloads(await ask(client, f"{MAILBOX}LIST.{name}"))
    await client.close()
    return {"before": before, "after": after, "stored": stored}


async def mailbox_work_restart() -> Result:
    client, again = await connect_to_come_back()
    name = await create(client, "restart.work")
    await send(client, name, "", b"a")
    await send(client, name, "", b"b")
    first, ids = await fetch_work(client, name, 1)
    await restart(again)
    second, more = await fetch_work(client, name, 10)
    acked = await acknowledge(client, name, "ack", ids + more)
    await client.close()
    return {"first": first, "second": second, "acked": acked}


# who may come in


def credentials() -> dict[str, Any]:
    said = os.environ
    options: dict[str, Any] = {}
    if "NATS_USER" in said:
        options |= {"user": said["NATS_USER"], "password": said["NATS_PASSWORD"]}
    if "NATS_TOKEN" in said:
        options["token"] = said["NATS_TOKEN"]
    if "NATS_NKEY_SEED_FILE" in said:
        options["nkeys_seed"] = said["NATS_NKEY_SEED_FILE"]
    if "NATS_CA" in said:
        options["tls"] = context = ssl.create_default_context(cafile=said["NATS_CA"])
        if "NATS_CERT" in said:
            context.load_cert_chain(said["NATS_CERT"], said["NATS_KEY"])
    if "NATS_TLS_FIRST" in said:
        options["tls_handshake_first"] = True
    return options


async def round_trip() -> Result:
    client = await connect(**credentials())
    subscription = await client.subscribe("open.a")
    await client.publish("open.a", b"hello")
    got = (await following(subscription)).data.decode()
    await client.close()
    return {"got": got}


async def refused() -> Result:
    try:
        client = await connect(allow_reconnect=False, **credentials())
    except (nats.errors.Error, OSError):
        return {"refused": True}
    await client.close()
    return {"refused": False}


async def permissions() -> Result:
    client, heard = await refusals("closed.a", **credentials())
    subscription = await client.subscribe("open.a")
    await client.publish("open.a", b"hello")
    got = (await following(subscription)).data.decode()
    await client.close()
    return {"heard": violations(heard), "got": got}


SCENARIOS: Final[Mapping[str, Callable[[], Awaitable[Result]]]] = {
    "connect": connecting,
    "requests": lambda: requests(False),
    "requests_old_style": lambda: requests(True),
} | {
    scenario.__name__: scenario
    for scenario in (
        *(
            publish_subscribe,
            wildcards,
            queues,
            headers,
            header_empty,
            no_responders,
            unsubscribe,
            no_echo,
            drain,
            reconnect,
        ),
        *(mailbox_create, mailbox_receive, mailbox_fetch, mailbox_delete, mailbox_list, mailbox_work),
        *(mailbox_workers, mailbox_refusal, mailbox_restart, mailbox_work_restart),
        *(round_trip, refused, permissions),
    )
}


async def main() -> None:
    for name in sys.argv[1:]:
        try:
            say({"scenario": name, "result": await SCENARIOS[name]()})
        except Exception as error:
            say({"scenario": name, "error": repr(error)})


if __name__ == "__main__":
    asyncio.run(main())
