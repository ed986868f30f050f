"""Messages with a life of their own: delayed, replaced by their key, sent twice; each also across a restart, and together."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from mq9.store.disk_engine import DiskStore
from tests.server.support import START_MS, ThreadedServer, body_of, create, headers_of, publish, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.rawclient import RawClient

MESSAGES = "$mq9.AI.MAILBOX.MSG."
LIST = "$mq9.AI.MAILBOX.LIST."
MSG = "$mq9.AI.MSG."
# The wheel's finest slots.
SLOT_MS = 4
WINDOW_MS = 120_000


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    with ThreadedServer() as server:
        yield server


@pytest.fixture
def client(server: ThreadedServer) -> Iterator[RawClient]:
    with server.client() as client:
        yield client


def send(client: RawClient, address: str, payload: bytes = b"", **headers: object) -> int:
    """Send, and give the msg_id; header names with _ for -."""
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    reply = request(client, MESSAGES + address, payload, named)
    assert "error" not in reply, reply
    return int(reply["msg_id"])


def listed(client: RawClient, mail_id: str, **wanted: object) -> list[int]:
    return [item["msg_id"] for item in request(client, LIST + mail_id, wanted)["messages"]]


def state(client: RawClient, mail_id: str, msg_id: int) -> Any:
    return request(client, f"{MSG}STATUS.{mail_id}.{msg_id}")["state"]


def lease(client: RawClient, mail_id: str, group: str, **more: object) -> list[int]:
    body = {"group_name": group, "config": {"max_wait_ms": 0}} | more
    return [item["msg_id"] for item in request(client, f"{MSG}FETCH.{mail_id}", body)["messages"]]


def delivered(frames: list[bytes]) -> list[int]:
    return [int(headers_of(frame)["mq9-msg-id"]) for frame in frames]


def receive(client: RawClient, mail_id: str, count: int, sid: int = 1) -> list[int]:
    """Subscribe, and give the msg_ids of so many messages."""
    client.send(f"SUB {MESSAGES}{mail_id} {sid}\r\n".encode())
    return delivered([client.frame() or b"" for _ in range(count)])


# delayed


def test_a_delayed_message_is_there_and_nobody_sees_it_before_its_time(
    server: ThreadedServer, client: RawClient
) -> None:
    mail_id = create(client)
    delayed = send(client, mail_id, b"later", mq9_delay="1.5", mq9_tags="a,b", mq9_ttl=60)
    now = send(client, mail_id, b"now")
    with server.client() as listener:
        assert receive(listener, mail_id, 1) == [now]
        for passed_ms in (0, 1_500):
            server.pass_time(passed_ms)
            assert state(client, mail_id, delayed) == "delayed"
            assert listed(client, mail_id) == [now]
            assert lease(client, mail_id, "") == [now]
            assert [item["msg_id"] for item in request(client, f"{MSG}QUERY.{mail_id}")["messages"]] == [now]
            assert listener.fence() == []
        server.outlast(0)
        assert delivered(listener.fence()) == [delayed]
    assert listed(client, mail_id) == [delayed, now]
    (item, _) = request(client, LIST + mail_id)["messages"]
    assert (item["payload"], item["tags"], item["expires_at"]) == ("later", ["a", "b"], START_MS // 1_000 + 60)
    assert state(client, mail_id, delayed) == "stored"
    assert lease(client, mail_id, "", config={"max_wait_ms": 0}) == [delayed, now]
    server.pass_time(60_000)
    assert listed(client, mail_id) == [now]  # its ttl counted from the send


def test_a_delay_that_would_end_with_the_ttl_is_refused(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client)
    refused = request(client, MESSAGES + mail_id, b"", {"mq9-ttl": "1", "mq9-delay": "0.999"})
    assert refused == {"error": "mq9-delay must be shorter than mq9-ttl", "code": 400}
    seen = send(client, mail_id, mq9_ttl=1, mq9_delay="0.991")
    server.pass_time(996)
    assert listed(client, mail_id) == [seen]


def test_a_delay_of_nothing_is_none(client: RawClient) -> None:
    mail_id = create(client)
    assert [send(client, mail_id, mq9_delay=text) for text in ("0", "0.000", "00")] == listed(client, mail_id)


def test_what_appears_stands_in_its_place_and_who_is_past_it_gets_it_next(
    server: ThreadedServer, client: RawClient
) -> None:
    mail_id = create(client)
    late = send(client, mail_id, b"late", mq9_delay=1)
    urgent = send(client, mail_id, b"urgent", mq9_delay=1, mq9_priority="urgent")
    first = send(client, mail_id, b"first")
    with server.client() as early, server.client() as other:
        assert receive(early, mail_id, 1) == [first]
        early.send(f"SUB {MESSAGES}{mail_id}.urgent 2\r\n".encode())
        early.fence()
        server.outlast(1_000)
        frames = early.fence()
        of_all = [frame for frame in frames if frame.split(b" ")[2] == b"1"]
        assert delivered(of_all) == [urgent, late]
        assert [headers_of(frame)["mq9-pending"] for frame in of_all] == ["1", "0"]
        assert delivered([frame for frame in frames if frame not in of_all]) == [urgent]
        last = send(client, mail_id, b"last")
        assert delivered([early.frame() or b""]) == [last]
        assert receive(other, mail_id, 4) == [urgent, late, first, last]
        assert early.fence() == other.fence() == []


def test_a_delayed_message_can_be_deleted_and_never_appears(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client)
    msg_id = send(client, mail_id, mq9_delay=1)
    with server.client() as listener:
        listener.send(f"SUB {MESSAGES}{mail_id} 1\r\n".encode())
        assert request(client, f"$mq9.AI.MAILBOX.DELETE.{mail_id}.{msg_id}") == {"deleted": True}
        assert state(client, mail_id, msg_id) == "gone"
        server.pass_time(2_000)
        assert listener.fence() == []
    assert server.server.office.messages == 0


def test_a_mailbox_that_ends_takes_what_is_delayed_with_it(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client, ttl=100)
    for delay in range(1, 40):
        send(client, mail_id, mq9_delay=delay)
    request(client, f"$mq9.AI.MAILBOX.REMOVE.{mail_id}")
    server.pass_time(200_000)
    office = server.server.office
    assert (office.messages, office.message_bytes, office.timers.count, office.expiries.count) == (0, 0, 0, 0)


def test_a_group_gets_what_appears_behind_it_once(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client)
    late = send(client, mail_id, mq9_delay=1)
    first = send(client, mail_id)
    with server.client() as worker:
        worker.send(f"SUB {MESSAGES}{mail_id} queue 1\r\n".encode())
        assert delivered([worker.frame() or b""]) == [first]
        assert lease(client, mail_id, "leased") == [first]
        body = {"group_name": "leased", "msg_ids": [late]}
        refused = request(client, f"{MSG}ACK.{mail_id}", body)
        assert (refused["code"], refused["error"]) == (409, f"message {late} was not handed out")
        server.outlast(1_000)
        assert delivered(worker.fence()) == [late]
        assert lease(client, mail_id, "leased") == [late]
        assert lease(client, mail_id, "leased") == []
        assert worker.fence() == []


def test_a_group_hears_of_many_in_slices_before_it_is_asked(server: ThreadedServer, client: RawClient) -> None:
    """Whatever is asked of it meanwhile is carried out after that, in the order in which it came."""
    mail_id = create(client)
    late = [send(client, mail_id, mq9_delay=1) for _ in range(30)]
    first = send(client, mail_id)
    assert lease(client, mail_id, "g") == [first]
    server.call(lambda: setattr(server.server.office.groups, "slice_max", 4))
    with server.client() as worker, server.client() as member:
        server.outlast(1_000)
        fetch = json.dumps({"group_name": "g", "config": {"num_msgs": 20, "max_wait_ms": 0}}).encode()
        ack = json.dumps({"group_name": "g", "msg_ids": [first, late[29]]}).encode()
        asked = publish(f"{MSG}FETCH.{mail_id}", fetch, "in.1") + publish(f"{MSG}ACK.{mail_id}", ack, "in.2")
        worker.send(b"SUB in.* 1\r\n" + asked)
        answers = [json.loads(body_of(worker.frame() or b"")) for _ in range(2)]
        assert [item["msg_id"] for item in answers[0]["messages"]] == late[:20]
        assert answers[1]["msg_ids"] == [late[29]]
        assert answers[1]["error"] == f"message {late[29]} was not handed out"
        member.send(f"SUB {MESSAGES}{mail_id} g 1\r\n".encode())
        assert delivered([member.frame() or b"" for _ in range(10)]) == late[20:]


def test_a_fetch_that_waits_is_answered_when_something_appears(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client)
    late = send(client, mail_id, mq9_delay=1)
    with server.client() as worker:
        worker.send(b"SUB in.* 1\r\n")
        for number, group in enumerate(("g", "")):
            body = json.dumps({"group_name": group, "config": {"max_wait_ms": 60_000}}).encode()
            worker.send(publish(f"{MSG}FETCH.{mail_id}", body, f"in.{number}"))
        assert worker.fence() == []
        server.outlast(1_000)
        for _ in range(2):
            frame = worker.frame()
            assert frame is not None
            assert [item["msg_id"] for item in json.loads(body_of(frame))["messages"]] == [late]


def test_a_receiver_that_does_not_read_gets_each_late_message_once(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client)
    late = [send(client, mail_id, b"%d" % number, mq9_delay=1 + number % 3) for number in range(200)]
    prompt = [send(client, mail_id, b"x" * 100_000) for _ in range(60)]
    with server.client() as slow, server.client() as quick:
        slow.send(f"SUB {MESSAGES}{mail_id} 1\r\n".encode())
        assert receive(quick, mail_id, len(prompt)) == prompt
        for second in range(3):
            server.outlast(1_000)
            assert delivered(quick.fence()) == late[second::3]
        got = [int(headers_of(slow.frame() or b"")["mq9-msg-id"]) for _ in late + prompt]
        assert sorted(got) == late + prompt
        assert quick.fence() == slow.fence() == []


@pytest.mark.parametrize("seed", range(25))
def test_nobody_misses_what_appears_and_nobody_gets_it_twice(seed: int) -> None:
    chance = random.Random(seed)
    with ThreadedServer() as server, server.client() as client:
        mail_id = create(client, ttl=0)
        office = server.server.office
        receivers: list[tuple[RawClient, list[int]]] = []
        gone: set[int] = set()
        sent: list[int] = []
        for _ in range(60):
            what = chance.randrange(6)
            if what < 3:
                delay = chance.choice([0, 0, 0.01, 0.5, 3])
                word = chance.choice(["high", "normal"])
                sent.append(send(client, mail_id, mq9_delay=delay, mq9_priority=word))
            elif what == 3:
                server.pass_time(chance.choice([1, 20, 700]))
            elif what == 4 and len(receivers) < 4:
                receiver = server.client()
                receiver.send(f"SUB {MESSAGES}{mail_id} 1\r\n".encode())
                receivers.append((receiver, []))
            elif sent:
                msg_id = chance.choice(sent)
                request(client, f"$mq9.AI.MAILBOX.DELETE.{mail_id}.{msg_id}")
                gone.add(msg_id)
            for receiver, got in receivers:
                got.extend(delivered(receiver.fence()))
        server.pass_time(5_000)
        stored = [msg_id for msg_id in sent if msg_id not in gone]
        assert listed(client, mail_id) == stored
        for receiver, got in receivers:
            got.extend(delivered(receiver.fence()))
            assert len(got) == len(set(got))
            assert set(stored) <= set(got)
            receiver.hang_up()
        assert office.timers.count == 0


# keys


def test_of_two_with_one_key_the_later_one_stays(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client)
    with server.client() as listener:
        first = send(client, mail_id, b"1", mq9_key="k")
        assert receive(listener, mail_id, 1) == [first]
        # Two in one write, hence in one commit: receivers see at most the second.
        headers = {"mq9-key": "k"}
        client.send(
            publish(f"{MESSAGES}{mail_id}", b"2", "", headers) + publish(f"{MESSAGES}{mail_id}.low", b"3", "", headers)
        )
        client.fence()
        (last,) = listed(client, mail_id)
        assert delivered([listener.frame() or b""]) == [last]
    assert listed(client, mail_id, key="k") == [last]
    assert listed(client, mail_id, key="j") == []
    assert state(client, mail_id, first) == "gone"
    request(client, f"$mq9.AI.MAILBOX.DELETE.{mail_id}.{last}")
    assert listed(client, mail_id) == []
    assert server.server.office.messages == 0


def test_a_delayed_message_replaces_at_once_and_is_replaced_before_it_appears(
    server: ThreadedServer, client: RawClient
) -> None:
    mail_id = create(client)
    send(client, mail_id, b"1", mq9_key="k")
    delayed = send(client, mail_id, b"2", mq9_key="k", mq9_delay=1)
    assert (listed(client, mail_id), state(client, mail_id, delayed)) == ([], "delayed")
    third = send(client, mail_id, b"3", mq9_key="k", mq9_delay=5, mq9_ttl=10)
    assert state(client, mail_id, delayed) == "gone"
    server.outlast(2_000)
    assert listed(client, mail_id) == []
    server.outlast(3_000)
    assert listed(client, mail_id) == [third]
    server.outlast(5_000)
    assert listed(client, mail_id) == []  # it has expired, and what it replaced does not come back


def test_a_key_is_one_of_its_mailbox(client: RawClient) -> None:
    one, other = create(client), create(client)
    ids = [send(client, box, mq9_key="k") for box in (one, other)]
    assert [listed(client, box) for box in (one, other)] == [[ids[0]], [ids[1]]]
    request(client, f"$mq9.AI.MAILBOX.REMOVE.{one}")
    assert listed(client, other) == [ids[1]]


def test_a_worker_does_not_get_what_was_replaced(client: RawClient) -> None:
    mail_id = create(client)
    first = send(client, mail_id, mq9_key="k")
    assert lease(client, mail_id, "g") == [first]
    second = send(client, mail_id, mq9_key="k")
    body = {"group_name": "g", "msg_id": first, "op": "nack"}
    request(client, f"{MSG}ACK.{mail_id}", body)
    assert lease(client, mail_id, "g") == [second]


# repeats


def test_a_repeat_within_two_minutes_is_not_stored(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client, ttl=0)
    address = MESSAGES + mail_id
    first = send(client, mail_id, b"1", Nats_Msg_Id="x")
    headers = {"Nats-Msg-Id": "x", "mq9-delay": "5", "mq9-key": "k"}
    server.pass_time(WINDOW_MS - 1)
    repeat = {"msg_id": first, "pending": 1, "receivers": 0, "duplicate": True}
    assert request(client, address, b"2", headers) == repeat
    assert request(client, address, b"2", {"Nats-Msg-Id": "X"})["msg_id"] == first + 1
    request(client, f"$mq9.AI.MAILBOX.DELETE.{mail_id}.{first}")
    assert request(client, address, b"2", headers) == repeat
    server.pass_time(1)
    assert request(client, address, b"3", {"Nats-Msg-Id": "x"}) == {"msg_id": first + 2, "pending": 2, "receivers": 0}
    server.pass_time(WINDOW_MS + 1_000)
    assert server.server.office.repeats.count == 0
    assert server.server.office.timers.count == 0


def test_repeats_in_one_commit_are_stored_once(client: RawClient) -> None:
    mail_id = create(client)
    client.send(b"SUB in 7\r\n")
    client.send(b"".join(publish(MESSAGES + mail_id, b"%d" % n, "in", {"Nats-Msg-Id": "x"}) for n in range(50)))
    replies = [json.loads(body_of(client.frame() or b"")) for _ in range(50)]
    assert {reply["msg_id"] for reply in replies} == {replies[0]["msg_id"]}
    assert [reply.get("duplicate", False) for reply in replies] == [False] + [True] * 49
    assert len(listed(client, mail_id)) == 1


def test_another_mailbox_even_of_the_same_name_has_not_seen_it(client: RawClient) -> None:
    name = create(client, name="again")
    first = send(client, name, Nats_Msg_Id="x")
    assert send(client, create(client), Nats_Msg_Id="x") == first + 1
    request(client, f"$mq9.AI.MAILBOX.REMOVE.{name}")
    create(client, name="again")
    assert send(client, name, Nats_Msg_Id="x") == first + 2


def test_blocks_with_an_id_are_kept_for_the_window_and_no_longer(server: ThreadedServer, client: RawClient) -> None:
    mail_id = create(client)
    for number in range(10):
        send(client, mail_id, mq9_ttl=1, Nats_Msg_Id=number)
    server.pass_time(2_000)
    send(client, mail_id, b"a commit", mq9_ttl=1)
    blocks = server.server.office.blocks
    assert (server.server.office.messages, blocks.blocks) == (1, 11)
    server.pass_time(WINDOW_MS)
    request(client, "$mq9.AI.MAILBOX.CREATE")
    client.fence()
    assert blocks.blocks == 0


# restarts


def restarted(path: Path, after_ms: int) -> ThreadedServer:
    server = ThreadedServer(DiskStore(path, 2**26))
    server.clock.now = START_MS + after_ms
    return server


def test_everything_is_as_it_was_after_a_restart(tmp_path: Path) -> None:
    with restarted(tmp_path, 0) as server, server.client() as client:
        mail_id = create(client, ttl=0)
        send(client, mail_id, b"old", mq9_key="k")
        delayed = send(client, mail_id, b"new", mq9_key="k", mq9_delay=30, mq9_priority="high", mq9_ttl=90)
        first = send(client, mail_id, b"first", Nats_Msg_Id="x")
        gone = send(client, mail_id, b"gone", mq9_ttl=1, Nats_Msg_Id="y")
        deleted = send(client, mail_id, b"deleted", Nats_Msg_Id="z")
        request(client, f"$mq9.AI.MAILBOX.DELETE.{mail_id}.{deleted}")
        server.outlast(1_500)
        assert lease(client, mail_id, "g") == [first]
    with restarted(tmp_path, 20_000) as server, server.client() as client:
        assert listed(client, mail_id) == [first]
        assert state(client, mail_id, delayed) == "delayed"
        for msg_id, name in ((first, "x"), (gone, "y"), (deleted, "z")):
            assert request(client, MESSAGES + mail_id, b"", {"Nats-Msg-Id": name})["msg_id"] == msg_id
        server.pass_time(10_000)
        assert listed(client, mail_id) == [first]
        server.outlast(0)
        assert listed(client, mail_id) == [delayed, first]
        assert lease(client, mail_id, "g") == [delayed]
    with restarted(tmp_path, 60_100) as server, server.client() as client:
        assert listed(client, mail_id, key="k") == [delayed]
        assert lease(client, mail_id, "g") == [delayed, first]  # their leases have run out
        latest = send(client, mail_id, b"newest", mq9_key="k")
        assert listed(client, mail_id) == [first, latest]
    with restarted(tmp_path, 120_000) as server, server.client() as client:
        assert listed(client, mail_id) == [first, latest]
        again = request(client, MESSAGES + mail_id, b"", {"Nats-Msg-Id": "x"})
        assert "duplicate" not in again
        server.outlast(WINDOW_MS + 1_000)
        request(client, "$mq9.AI.MAILBOX.CREATE")
        assert server.server.office.repeats.count == 0
        assert server.server.office.messages == 3


def test_what_appeared_while_the_broker_was_down_comes_to_a_group_that_had_passed_it(tmp_path: Path) -> None:
    with restarted(tmp_path, 0) as server, server.client() as client:
        mail_id = create(client, ttl=0)
        late = send(client, mail_id, mq9_delay=30)
        first = send(client, mail_id)
        assert lease(client, mail_id, "g") == [first]
        assert request(client, f"{MSG}ACK.{mail_id}", {"group_name": "g", "msg_id": first}) == {"error": ""}
    with restarted(tmp_path, 40_000) as server, server.client() as client:
        assert lease(client, mail_id, "g") == [late]
        assert request(client, f"{MSG}ACK.{mail_id}", {"group_name": "g", "msg_id": late}) == {"error": ""}
    with restarted(tmp_path, 50_000) as server, server.client() as client:
        assert lease(client, mail_id, "g") == []
