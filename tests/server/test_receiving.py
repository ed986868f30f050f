"""Replay and live, slow receivers, and what comes first: what a receiver may rely on (docs/protocol.md §3, receive)."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from mq9.protocol import PRIORITIES
from mq9.store.disk_engine import DiskStore
from tests.server.support import ThreadedServer, body_of, create, headers_of, publish, request

if TYPE_CHECKING:
    from pathlib import Path

    from mq9.store.contract import Commit
    from tests.support.rawclient import RawClient


class SlowStore(DiskStore):
    """The real engine on a disk that takes its time."""

    delay_s = 0.003

    async def commit(self, commit: Commit) -> None:
        await asyncio.sleep(self.delay_s)
        await super().commit(commit)


def read_until_caught_up(client: RawClient, wanted: int) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < wanted:
        frame = client.frame()
        assert frame is not None
        frames.append(frame)
    return frames


def test_replay_is_by_priority_and_then_by_msg_id() -> None:
    with ThreadedServer() as broker, broker.client() as client:
        name = create(client)
        rng = random.Random(5)
        sent = []
        for number in range(500):
            word = rng.choice(PRIORITIES)
            msg_id = request(client, f"$mq9.AI.MAILBOX.MSG.{name}.{word}", b"%d" % number)["msg_id"]
            sent.append((PRIORITIES.index(word), msg_id, b"%d" % number))
        client.send(f"SUB $mq9.AI.MAILBOX.MSG.{name}.* 1\r\n".encode())
        frames = read_until_caught_up(client, 500)
        got = [
            (PRIORITIES.index(h["mq9-priority"]), int(h["mq9-msg-id"]), body_of(f))
            for f in frames
            for h in [headers_of(f)]
        ]
        assert got == sorted(sent)
        assert [int(headers_of(frame)["mq9-pending"]) for frame in frames] == list(range(499, -1, -1))


@pytest.mark.parametrize("word", PRIORITIES)
def test_a_receiver_on_one_level_gets_that_level_only(word: str) -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as receiver:
        name = create(client)
        for other in PRIORITIES:
            request(client, f"$mq9.AI.MAILBOX.MSG.{name}.{other}", other.encode())
        receiver.send(f"SUB $mq9.AI.MAILBOX.MSG.{name}.{word} 1\r\n".encode())
        first = receiver.frame()
        assert first is not None
        assert (body_of(first), headers_of(first)["mq9-pending"]) == (word.encode(), "0")
        for other in PRIORITIES:
            request(client, f"$mq9.AI.MAILBOX.MSG.{name}", b"live " + other.encode(), {"mq9-priority": other})
        assert [body_of(frame) for frame in receiver.fence()] == [b"live " + word.encode()]


def test_nothing_is_skipped_or_repeated_where_replay_meets_live(tmp_path: Path) -> None:
    """Receivers join at any moment while senders send in all priorities and commits take their time."""
    senders, each = 4, 1_500
    store = SlowStore(tmp_path / "data")
    with ThreadedServer(store) as broker, broker.client() as client:
        name = create(client)
        subject = f"$mq9.AI.MAILBOX.MSG.{name}"

        def send(number: int) -> None:
            rng = random.Random(number)
            with broker.client() as sender:
                for at in range(each):
                    sender.send(publish(f"{subject}.{rng.choice(PRIORITIES)}", b"%d:%d" % (number, at)))
                    if at % 50 == 0:
                        sender.fence()
                sender.fence()

        def receive(seed: int, results: dict[int, list[bytes]]) -> None:
            with broker.client() as receiver:
                for _ in range(random.Random(seed).randrange(40)):
                    receiver.fence()
                receiver.send(f"SUB {subject} 7\r\n".encode())
                results[seed] = read_until_caught_up(receiver, senders * each)

        results: dict[int, list[bytes]] = {}
        threads = [threading.Thread(target=send, args=(number,)) for number in range(senders)]
        threads += [threading.Thread(target=receive, args=(seed, results)) for seed in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert len(results) == 12
        expected = {b"%d:%d" % (number, at) for number in range(senders) for at in range(each)}
        for frames in results.values():
            assert {body_of(frame) for frame in frames} == expected
            by_level = defaultdict(list)
            for frame in frames:
                headers = headers_of(frame)
                by_level[headers["mq9-priority"]].append(int(headers["mq9-msg-id"]))
            assert all(ids == sorted(set(ids)) for ids in by_level.values())


def test_what_is_urgent_overtakes_everything_that_was_not_written_yet() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as receiver:
        name = create(client)
        subject = f"$mq9.AI.MAILBOX.MSG.{name}"
        receiver.send(f"SUB {subject} 1\r\nPING\r\n".encode())
        assert receiver.frame() == b"PONG"
        for _ in range(400):  # 40 MB: far more than sockets and the 1 MB of room take
            client.send(publish(subject, b"x" * 100_000))
        client.fence()
        request(client, f"{subject}.critical", b"now")
        frames = read_until_caught_up(receiver, 401)
        place = [body_of(frame) for frame in frames].index(b"now")
        assert place < 200, f"the urgent message came as number {place} of 401"
        assert headers_of(frames[-1])["mq9-pending"] == "0"
        ids = [int(headers_of(frame)["mq9-msg-id"]) for frame in frames if body_of(frame) != b"now"]
        assert ids == sorted(ids)


def test_a_paused_receiver_sees_neither_what_was_deleted_nor_what_expired_meanwhile() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as receiver:
        name = create(client, ttl=0)
        subject = f"$mq9.AI.MAILBOX.MSG.{name}"
        receiver.send(f"SUB {subject} 1\r\nPING\r\n".encode())
        assert receiver.frame() == b"PONG"
        for number in range(300):
            headers = {"mq9-ttl": "5"} if number % 3 == 0 else {}
            client.send(publish(subject, b"%d" % number + b" " * 100_000, "", headers))
        client.fence()
        last = request(client, subject, b"end")["msg_id"]
        for msg_id in range(last - 100, last, 2):
            assert request(client, f"$mq9.AI.MAILBOX.DELETE.{name}.{msg_id}") == {"deleted": True}
        broker.pass_time(5_004)
        got: list[bytes] = []
        while not got or got[-1] != b"end":
            frame = receiver.frame()
            assert frame is not None
            got.append(body_of(frame).split(b" ")[0])
        numbers = [int(item) for item in got[:-1]]
        kept = [n for n in range(300) if n % 3 and not (n + 1 >= last - 100 and (n + 1 - (last - 100)) % 2 == 0)]
        written_before = len([n for n in numbers if n not in kept])
        assert [n for n in numbers if n in kept] == kept
        assert numbers == sorted(set(numbers))
        assert written_before < 150  # what was in the socket already cannot be called back


def test_unsubscribing_after_a_number_of_messages_is_exact_in_replay_and_live() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as receiver:
        name = create(client)
        subject = f"$mq9.AI.MAILBOX.MSG.{name}"
        for number in range(5):
            request(client, subject, b"%d" % number)
        receiver.send(f"SUB {subject} 1\r\nUNSUB 1 7\r\n".encode())
        assert [body_of(frame) for frame in read_until_caught_up(receiver, 5)] == [b"%d" % n for n in range(5)]
        for number in range(5, 10):
            request(client, subject, b"%d" % number)
        assert [body_of(frame) for frame in receiver.fence()] == [b"5", b"6"]


def test_a_receiver_that_hangs_up_in_the_middle_disturbs_nobody() -> None:
    with ThreadedServer() as broker, broker.client() as client, broker.client() as steady:
        name = create(client)
        subject = f"$mq9.AI.MAILBOX.MSG.{name}"
        steady.send(f"SUB {subject} 1\r\n".encode())
        steady.fence()
        for turn in range(30):
            with broker.client() as fleeting:
                fleeting.send(f"SUB {subject} 1\r\n".encode())
                request(client, subject, b"%d" % turn + b" " * 50_000)
                fleeting.reset()
        assert [int(body_of(frame)) for frame in read_until_caught_up(steady, 30)] == list(range(30))
        mailbox = broker.server.office.get(name.encode(), broker.clock.now)
        assert mailbox is not None
        client.fence()
        assert broker.call(lambda: len(mailbox.receivers or [])) == 1
