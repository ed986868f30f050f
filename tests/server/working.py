"""What a worker does all the time: FETCH, ACK, and receive as a member of a group (docs/protocol.md §4)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from tests.server.support import body_of, publish, request

if TYPE_CHECKING:
    from tests.support.rawclient import RawClient

LEASE = "$mq9.AI.MSG.FETCH."
ACK = "$mq9.AI.MSG.ACK."
MESSAGES = "$mq9.AI.MAILBOX.MSG."
GONE = {"error": "no such message", "code": 404}


def send(client: RawClient, mail_id: str, *payloads: bytes, priority: str = "normal") -> list[int]:
    """Send messages one after the other; their msg_ids."""
    return [int(request(client, f"{MESSAGES}{mail_id}.{priority}", payload)["msg_id"]) for payload in payloads]


def send_at_once(client: RawClient, mail_id: str, payloads: list[bytes], priority: str = "normal") -> None:
    """Send messages in one write, and come back when all are stored."""
    client.send(b"".join(publish(f"{MESSAGES}{mail_id}.{priority}", payload) for payload in payloads[:-1]))
    send(client, mail_id, payloads[-1], priority=priority)


def lease(
    client: RawClient, mail_id: str, group: str | None = "g", *, count: int = 100, wait: int = 0, **more: Any
) -> Any:
    """The messages of the answer to a FETCH; fails when it is refused."""
    answer = request(client, LEASE + mail_id, wanted(group, count=count, wait=wait, **more))
    assert answer.keys() == {"error", "messages"}, answer
    assert answer["error"] == ""
    return answer["messages"]


def leased(client: RawClient, mail_id: str, group: str = "g", **more: Any) -> list[tuple[int, int]]:
    """(msg_id, attempt) of the messages that a FETCH gives."""
    return [(item["msg_id"], item["attempt"]) for item in lease(client, mail_id, group, **more)]


def ids(client: RawClient, mail_id: str, group: str | None = "g", **more: Any) -> list[int]:
    """The msg_ids of the messages that a FETCH gives."""
    return [item["msg_id"] for item in lease(client, mail_id, group, **more)]


def wanted(group: str | None = "g", *, count: int = 100, wait: int = 0, **more: Any) -> dict[str, Any]:
    """The body of a FETCH."""
    return {"group_name": group, "config": {"num_msgs": count, "max_wait_ms": wait}, **more}


def begin_lease(client: RawClient, mail_id: str, group: str | None = "g", *, inbox: str = "later", **more: Any) -> None:
    """Ask for messages and leave the answer for `answer`; comes back when the broker has been told."""
    body = json.dumps(wanted(group, **{"wait": 3_600_000, **more})).encode()
    client.send(f"SUB {inbox} {inbox}\r\n".encode() + publish(LEASE + mail_id, body, inbox))
    assert client.fence() == []


def answer(client: RawClient) -> Any:
    """The JSON of the next frame."""
    frame = client.frame()
    assert frame is not None, "the broker hung up"
    return json.loads(body_of(frame))


def payloads_of(messages: list[dict[str, Any]]) -> list[bytes]:
    """What the messages of a FETCH carry."""
    return [base64.b64decode(item["payload"]) for item in messages]


def ack(client: RawClient, mail_id: str, group: str = "g", **body: Any) -> Any:
    """The answer to an ACK."""
    return request(client, ACK + mail_id, {"group_name": group, **body})


def done(client: RawClient, mail_id: str, group: str = "g", **body: Any) -> None:
    """An ACK that must succeed."""
    said = ack(client, mail_id, group, **body)
    assert said == {"error": ""}, said


def conflict(msg_id: int, what: str) -> dict[str, Any]:
    """The answer to an ACK of a single message that is not as the worker thinks."""
    return {"error": f"message {msg_id} {what}", "code": 409}


def dead(client: RawClient, mail_id: str, group: str = "g") -> list[tuple[int, int, str]]:
    """(msg_id, attempts, reason) of the messages that are dead for a group."""
    said = request(client, f"$mq9.AI.MAILBOX.LIST.{mail_id}", {"dead": group})
    return [(item["msg_id"], item["attempts"], item["reason"]) for item in said["messages"]]


def join(client: RawClient, mail_id: str, group: str = "g", sid: int = 1, level: str = "*") -> None:
    """Become a member of a group; what comes at once is left to be read."""
    client.send(f"SUB {MESSAGES}{mail_id}.{level} {group} {sid}\r\n".encode())
