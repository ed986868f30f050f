"""nats-py, the official Python client, used as its users use it; it must see no difference to nats-server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import nats
import nats.errors
import nats.js.errors
import pytest

from tests.clients.command import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from tests.clients.conftest import Restartable


async def connected(server: Restartable, failures: list[Exception], **options: Any) -> Client:
    """Connect, and have every error that the server reports put among `failures`."""

    async def fail(error: Exception) -> None:
        failures.append(error)

    return await nats.connect(server.url, error_cb=fail, **{"allow_reconnect": False} | options)


async def settled(*clients: Client) -> None:
    """Wait until the server has dealt with all that `clients` have said so far, one client after the other.

    Twice, because flush() of nats-py lets its PING overtake what is not written yet, and does write that.
    """
    for client in clients:
        await client.flush()
        await client.flush()


def using(**options: Any) -> Callable[[Callable[[Client, Client], Awaitable[None]]], Callable[[Restartable], None]]:
    """Run a coroutine with two clients of the server: one with these `options` of nats-py, and one without."""

    def decorate(test: Callable[[Client, Client], Awaitable[None]]) -> Callable[[Restartable], None]:
        def run(server: Restartable) -> None:
            async def body() -> None:
                failures: list[Exception] = []
                first, second = await connected(server, failures, **options), await connected(server, failures)
                try:
                    await asyncio.wait_for(test(first, second), PATIENCE_S)
                    assert failures == []
                finally:
                    await first.close()
                    await second.close()

            asyncio.run(body())

        run.__name__ = run.__qualname__ = getattr(test, "__name__", "run")
        return run

    return decorate


@using()
async def test_connecting_tells_who_the_server_is(client: Client, other: Client) -> None:
    assert client.is_connected
    assert client.connected_server_version.major == 2
    assert client.connected_server_version.minor >= 2
    assert client.max_payload == 1024 * 1024
    assert client.client_id is not None
    assert other.client_id is not None
    assert client.client_id < other.client_id


@using()
async def test_published_messages_arrive_in_order_and_whole(client: Client, other: Client) -> None:
    subscription = await client.subscribe("order.*")
    await settled(client)
    sent = [b"%d:" % number + bytes([number % 256]) * (number * 37 % 5000) for number in range(500)]
    for payload in sent:
        await other.publish("order.a", payload)
    assert [(await subscription.next_msg(PATIENCE_S)).data for _ in sent] == sent


@using()
async def test_a_callback_gets_what_matches_a_wildcard(client: Client, other: Client) -> None:
    got: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def put(message: Msg) -> None:
        got.put_nowait((message.subject, message.data))

    await client.subscribe("wild.*.end", cb=put)
    await client.subscribe("wild.>", cb=put)
    await settled(client)
    await other.publish("wild.a.end", b"1")
    await other.publish("wild.b.c", b"2")
    await other.publish("wild", b"3")
    await settled(other, client)
    assert sorted([await got.get() for _ in range(3)]) == [
        ("wild.a.end", b"1"),
        ("wild.a.end", b"1"),
        ("wild.b.c", b"2"),
    ]
    assert got.empty()


@using()
async def test_the_largest_payload_passes_and_a_larger_one_does_not(client: Client, other: Client) -> None:
    subscription = await client.subscribe("large")
    await settled(client)
    payload = bytes(range(256)) * (client.max_payload // 256)
    await other.publish("large", payload)
    assert (await subscription.next_msg(PATIENCE_S)).data == payload
    with pytest.raises(nats.errors.MaxPayloadError):
        await other.publish("large", payload + b"x")


@pytest.mark.parametrize("old_style", [False, True], ids=["one inbox for all", "an inbox for each"])
def test_requests_are_answered(server: Restartable, old_style: bool) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(b"to " + message.data)

    @using()
    async def ask(service: Client, client: Client) -> None:
        await service.subscribe("service", cb=answer)
        await settled(service)
        assert (await client.request("service", b"one", PATIENCE_S, old_style=old_style)).data == b"to one"
        many = await asyncio.gather(
            *(client.request("service", b"%d" % number, PATIENCE_S, old_style=old_style) for number in range(100))
        )
        assert [reply.data for reply in many] == [b"to %d" % number for number in range(100)]

    ask(server)


@pytest.mark.parametrize("old_style", [False, True], ids=["one inbox for all", "an inbox for each"])
def test_a_request_to_nobody_fails_at_once(server: Restartable, old_style: bool) -> None:
    @using()
    async def ask(client: Client, _: Client) -> None:
        for _attempt in range(3):
            with pytest.raises(nats.errors.NoRespondersError):
                await client.request("nobody", b"", PATIENCE_S, old_style=old_style)

    ask(server)


@using()
async def test_queue_members_share_and_groups_do_not(client: Client, other: Client) -> None:
    members = [await client.subscribe("work", queue="workers") for _ in range(2)]
    members.append(await other.subscribe("work", queue="workers"))
    audit = await other.subscribe("work", queue="auditors")
    plain = await client.subscribe("work")
    await settled(client, other)
    for number in range(300):
        await client.publish("work", b"%d" % number)
    await settled(client, other)
    all_of_them = [b"%d" % number for number in range(300)]
    shares = [[(await member.next_msg(PATIENCE_S)).data for _ in range(member.pending_msgs)] for member in members]
    assert sorted(payload for share in shares for payload in share) == sorted(all_of_them)
    assert min(map(len, shares)) > 30, "the members' shares are far from even"
    for group in (audit, plain):
        assert [(await group.next_msg(PATIENCE_S)).data for _ in all_of_them] == all_of_them


@using()
async def test_headers_arrive_as_sent(client: Client, other: Client) -> None:
    subscription = await client.subscribe("headed")
    await settled(client)
    headers = {"content-type": "text/plain", "X-Case": "Kept", "Nats-Msg-Id": "7", "empty": ""}
    await other.publish("headed", b"body", headers=headers)
    await other.publish("headed", b"", headers={"only": "this"})
    await other.publish("headed", b"none")
    first, second, third = [await subscription.next_msg(PATIENCE_S) for _ in range(3)]
    assert (first.data, first.headers) == (b"body", headers)
    assert (second.data, second.headers) == (b"", {"only": "this"})
    assert (third.data, third.headers) == (b"none", None)


@using()
async def test_a_subscription_ends_after_as_many_messages_as_it_asked_for(client: Client, other: Client) -> None:
    got: list[bytes] = []
    enough = asyncio.Event()

    async def keep(message: Msg) -> None:
        got.append(message.data)
        if len(got) == 3:
            enough.set()

    subscription = await client.subscribe("few", cb=keep)
    await subscription.unsubscribe(limit=3)
    witness = await client.subscribe("few")
    await settled(client)
    for number in range(10):
        await other.publish("few", b"%d" % number)
    assert [(await witness.next_msg(PATIENCE_S)).data for _ in range(10)][-1] == b"9"
    await enough.wait()
    assert got == [b"0", b"1", b"2"]


@using()
async def test_an_unsubscribed_client_gets_no_more(client: Client, other: Client) -> None:
    subscription = await client.subscribe("over")
    witness = await client.subscribe("over")
    await settled(client)
    await other.publish("over", b"1")
    assert (await subscription.next_msg(PATIENCE_S)).data == b"1"
    await subscription.unsubscribe()
    await settled(client)
    await other.publish("over", b"2")
    assert [(await witness.next_msg(PATIENCE_S)).data for _ in range(2)] == [b"1", b"2"]
    assert subscription.pending_msgs == 0


@using()
async def test_draining_a_subscription_handles_what_has_come(client: Client, other: Client) -> None:
    got: list[bytes] = []

    async def keep_slowly(message: Msg) -> None:
        await asyncio.sleep(0)
        got.append(message.data)

    subscription = await client.subscribe("drained", cb=keep_slowly)
    await settled(client)
    for number in range(200):
        await other.publish("drained", b"%d" % number)
    await settled(other, client)
    await subscription.drain()  # type: ignore[no-untyped-call]
    assert got == [b"%d" % number for number in range(200)]
    await other.publish("drained", b"late")
    await settled(other, client)
    assert got[-1] == b"199"


@using()
async def test_draining_a_client_publishes_what_is_pending_and_closes_it(client: Client, other: Client) -> None:
    subscription = await other.subscribe("last.words")
    await settled(other)
    for number in range(100):
        await client.publish("last.words", b"%d" % number)
    await client.drain()
    assert client.is_closed
    assert [(await subscription.next_msg(PATIENCE_S)).data for _ in range(100)] == [b"%d" % n for n in range(100)]


@using(no_echo=True)
async def test_without_echo_a_client_does_not_hear_itself(quiet: Client, other: Client) -> None:
    subscription = await quiet.subscribe("echoes")
    await settled(quiet)
    await quiet.publish("echoes", b"mine")
    await settled(quiet)
    await other.publish("echoes", b"theirs")
    assert (await subscription.next_msg(PATIENCE_S)).data == b"theirs"


@using(verbose=True, pedantic=True)
async def test_a_verbose_and_pedantic_client_works(client: Client, other: Client) -> None:
    subscription = await client.subscribe("verbose")
    await settled(client)
    for number in range(20):
        await client.publish("verbose", b"%d" % number, headers={"number": str(number)})
    await settled(client)
    assert [(await subscription.next_msg(PATIENCE_S)).data for _ in range(20)] == [b"%d" % n for n in range(20)]
    await subscription.unsubscribe()
    await settled(client)


@using()
async def test_jetstream_is_not_there(client: Client, other: Client) -> None:
    with pytest.raises((nats.js.errors.ServiceUnavailableError, nats.errors.NoRespondersError)):
        await client.jetstream(timeout=PATIENCE_S).account_info()


def test_a_client_goes_on_after_the_server_has_been_restarted(own_server: Restartable) -> None:
    async def body() -> None:
        back = asyncio.Event()

        async def reconnected() -> None:
            back.set()

        patient = {"allow_reconnect": True, "reconnect_time_wait": 0.05, "max_reconnect_attempts": -1}
        client = await connected(own_server, [], reconnected_cb=reconnected, **patient)
        try:
            plain = await client.subscribe("again")
            counted = await client.subscribe("again")
            await counted.unsubscribe(limit=3)
            await client.publish("again", b"before")
            assert [(await each.next_msg(PATIENCE_S)).data for each in (plain, counted)] == [b"before"] * 2
            await asyncio.to_thread(own_server.stop)
            await asyncio.to_thread(own_server.start)
            await asyncio.wait_for(back.wait(), PATIENCE_S)
            for number in range(4):
                await client.publish("again", b"%d" % number)
            assert [(await plain.next_msg(PATIENCE_S)).data for _ in range(4)] == [b"0", b"1", b"2", b"3"]
            assert [(await counted.next_msg(PATIENCE_S)).data for _ in range(2)] == [b"0", b"1"]
        finally:
            await client.close()

    asyncio.run(asyncio.wait_for(body(), 2 * PATIENCE_S))
