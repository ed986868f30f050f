"""Reading somebody else's mail, tried by every means that a client has; SECURITY.md says what is kept from whom."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from mq9.mailboxes.drops import drop_id_of
from tests.server.support import body_of, create, publish, request
from tests.server.test_http import get
from tests.support.broker import BrokerProcess
from tests.support.rawclient import RawClient
from tests.support.secrets import password

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAILBOX = "$mq9.AI.MAILBOX"
MSG = "$mq9.AI.MSG"
CONFIGURATION = """
[[users]]
name = "anna"
password = "anna"
[[users]]
name = "eve"
password = "eve"
[[users]]
name = "caged"
password = "caged"
permissions.publish = "$mq9.>"
permissions.subscribe = ["_INBOX_caged.>", "$mq9.>"]
"""
# What a private mailbox's name could look like to somebody who does not know it.
UNKNOWN = "m-" + "a" * 26


@dataclass
class Scene:
    """Anna with her mailbox, and Eve who knows neither its mail_id nor, at first, its drop_id."""

    process: BrokerProcess
    port: int
    anna: RawClient
    eve: RawClient
    box: str

    @property
    def drop_id(self) -> str:
        """The mailbox's address for senders."""
        return drop_id_of(self.box.encode()).decode()

    def live(self) -> None:
        """Have Anna do everything that she does with a mailbox, so that there is something to be overheard."""
        anna, box = self.anna, self.box
        anna.send(f"SUB {MAILBOX}.MSG.{box}.* 500\r\nSUB {MAILBOX}.EVENTS.{box} 501\r\n".encode())
        sent = ask(
            anna, f"{MAILBOX}.MSG.{box}.high", b"secret words", {"mq9-key": "secret-key", "mq9-tags": "secret-tag"}
        )
        anna.send(publish(f"{MAILBOX}.MSG.{box}", b"secret words"))
        ask(anna, f"{MAILBOX}.LIST.{box}")
        leased = ask(anna, f"{MSG}.FETCH.{box}", {"group_name": "secret-group"})
        ask(anna, f"{MSG}.ACK.{box}", {"group_name": "secret-group", "msg_id": leased["messages"][0]["msg_id"]})
        ask(anna, f"{MSG}.STATUS.{box}.{sent['msg_id']}")
        ask(anna, f"{MAILBOX}.CREATE", {"name": box, "renew": True, "desc": "secret desc"})
        ask(anna, f"{MAILBOX}.CREATE", {"name": "annas.named", "desc": "secret desc"})
        ask(anna, f"{MAILBOX}.DELETE.{box}.{sent['msg_id']}")
        anna.send(b"UNSUB 500\r\nUNSUB 501\r\n")
        anna.fence()


def ask(client: RawClient, subject: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
    """As `request`, for a client that is given other things meanwhile."""
    payload = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    client.send(b"SUB _INBOX.annas.reply 900\r\n" + publish(subject, payload, "_INBOX.annas.reply", headers))
    while (frame := client.frame()) is not None:
        if frame.split()[1] == b"_INBOX.annas.reply":
            client.send(b"UNSUB 900\r\n")
            return json.loads(body_of(frame))
    raise AssertionError("the broker hung up")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A broker of its own for each test, whose log can be looked into."""
    with staged(tmp_path) as found:
        yield found


@contextmanager
def staged(folder: Path) -> Iterator[Scene]:
    config = folder / "mq9.toml"
    config.write_text(CONFIGURATION)
    with BrokerProcess(folder / "data", http=True, arguments=["--config", str(config)]) as process:
        port = int(process.url.rpartition(":")[2])
        with RawClient(port).connect(**password("anna")) as anna, RawClient(port).connect(**password("eve")) as eve:
            yield Scene(process, port, anna, eve, create(anna, ttl=600))


def overheard(scene: Scene) -> list[bytes]:
    """What Eve has got, but for what she was refused."""
    return [frame for frame in scene.eve.fence() if not frame.startswith(b"-ERR 'Permissions Violation")]


# Whatever one may hope to overhear something by.
HOPEFUL = [
    ">",
    "$mq9.>",
    "*.AI.>",
    "*.*.*.*.*.*",
    "*.AI.MAILBOX.MSG.*.*",
    f"{MAILBOX}.>",
    f"{MAILBOX}.*.*",
    f"{MAILBOX}.MSG.>",
    f"{MAILBOX}.MSG.*",
    f"{MAILBOX}.MSG.*.*",
    f"{MAILBOX}.MSG.*.high",
    f"{MAILBOX}.MSG.m-*",
    f"{MAILBOX}.MSG.{UNKNOWN[:-1]}*",
    f"{MAILBOX}.EVENTS.*",
    f"{MAILBOX}.EVENTS.>",
    f"{MSG}.FETCH.*",
    f"{MSG}.>",
    "_INBOX.>",
    "_INBOX.annas.*",
    "_INBOX.annas.reply",
    "*.annas.*",
    "*.>",
]


@pytest.mark.parametrize("queue", ["", "secret-group", ">", "*"])
def test_no_subscription_overhears_anything(scene: Scene, queue: str) -> None:
    for sid, subject in enumerate(HOPEFUL):
        scene.eve.send(f"SUB {subject} {queue} {sid}\r\n".encode())
    scene.live()
    assert overheard(scene) == []


def test_the_subscription_that_would_overhear_core_nats_does(scene: Scene) -> None:
    """The test above can see what it looks for."""
    scene.eve.send(b"SUB _INBOX.> 1\r\n")
    scene.eve.fence()
    scene.anna.send(publish("_INBOX.annas.reply", b"not by the broker"))
    scene.anna.fence()
    assert len(overheard(scene)) == 1


REQUESTS: list[tuple[str, dict[str, Any] | None]] = [
    (f"{MAILBOX}.LIST.{{}}", {}),
    (f"{MAILBOX}.DELETE.{{}}.1", None),
    (f"{MAILBOX}.REMOVE.{{}}", None),
    (f"{MSG}.FETCH.{{}}", {"group_name": "secret-group", "config": {"max_wait_ms": 0}}),
    (f"{MSG}.FETCH.{{}}", {"config": {"max_wait_ms": 0}}),
    (f"{MSG}.ACK.{{}}", {"group_name": "secret-group", "msg_id": 1}),
    (f"{MSG}.QUERY.{{}}", {}),
    (f"{MSG}.DELETE.{{}}.1", None),
]


def test_a_drop_id_reads_nothing_and_is_like_one_that_is_none(scene: Scene) -> None:
    none = drop_id_of(UNKNOWN.encode()).decode()
    scene.live()
    for subject, body in REQUESTS:
        answers = [request(scene.eve, subject.format(address), body) for address in (scene.drop_id, none)]
        assert answers[0] == answers[1] == {"error": "a drop_id accepts only send and status", "code": 403}, subject
    for kind in ("MSG.{}", "MSG.{}.*", "MSG.{}.high", "EVENTS.{}", "MSG.{} secret-group"):
        for address in (scene.drop_id, none):
            scene.eve.send(f"SUB {MAILBOX}.{kind.format(address)} 1\r\n".encode())
            assert len(scene.eve.fence()) == 1
    for body in ({"name": scene.drop_id}, {"name": scene.drop_id, "renew": True}):
        assert request(scene.eve, f"{MAILBOX}.CREATE", body)["code"] == 400
    sent = request(scene.eve, f"{MAILBOX}.MSG.{scene.drop_id}", b"from eve")
    assert sent.keys() == {"msg_id", "pending", "receivers"}
    assert scene.box not in str(request(scene.eve, f"{MSG}.STATUS.{scene.drop_id}.{sent['msg_id']}"))


def test_a_name_that_is_not_known_is_like_one_that_is_not_there(scene: Scene) -> None:
    scene.live()
    for subject, body in (*REQUESTS, (f"{MAILBOX}.MSG.{{}}", None), (f"{MSG}.STATUS.{{}}.1", None)):
        assert request(scene.eve, subject.format(UNKNOWN), body) == {"error": "no such mailbox", "code": 404}, subject
    # One letter off, or of another case, is another name.
    for wrong in (scene.box[:-1], scene.box + "a", scene.box.upper(), scene.box + ".x", "x." + scene.box):
        assert request(scene.eve, f"{MAILBOX}.LIST.{wrong}")["code"] in {400, 404}
    listed = request(scene.eve, "$mq9.AI.PUBLIC.LIST", {"limit": 1000})
    assert listed == {"mailboxes": [], "next": None}


def test_replies_go_to_who_has_asked(scene: Scene) -> None:
    """Eve asks in Anna's name: the answer is for Eve alone, and Anna is not confused by it."""
    scene.anna.send(b"SUB _INBOX.annas.* 1\r\n")
    scene.anna.fence()
    scene.eve.send(publish(f"{MAILBOX}.CREATE", b"{}", "_INBOX.annas.reply"))
    scene.eve.send(publish(f"{MAILBOX}.MSG.{scene.drop_id}", b"x", "_INBOX.annas.reply"))
    assert scene.eve.fence() == []
    assert scene.anna.fence() == []
    # A queue subscription is nobody's own.
    scene.eve.send(b"SUB _INBOX.annas.* q 1\r\n" + publish(f"{MAILBOX}.CREATE", b"{}", "_INBOX.annas.reply"))
    assert scene.eve.fence() == []


def test_a_user_who_may_not_publish_to_inboxes_forges_no_replies(scene: Scene) -> None:
    with RawClient(scene.port).connect(**password("caged")) as caged:
        scene.anna.send(b"SUB _INBOX.annas.* 1\r\n")
        scene.anna.fence()
        caged.send(publish("_INBOX.annas.reply", b"forged"))
        caged.send(b"SUB _INBOX.annas.reply 1\r\nSUB _INBOX.> 2\r\nSUB > 3\r\n")
        assert len(caged.fence()) == 4
        assert scene.anna.fence() == []
        # What the user does need works.
        caged.send(b"SUB _INBOX_caged.x 9\r\n" + publish(f"{MAILBOX}.CREATE", b"{}", "_INBOX_caged.x"))
        assert b"mail_id" in b"".join([caged.frame() or b""])


def test_a_group_of_one_mailbox_is_none_of_another(scene: Scene) -> None:
    mine = create(scene.eve)
    scene.eve.send(f"SUB {MAILBOX}.MSG.{mine}.* secret-group 1\r\n".encode())
    scene.eve.fence()
    scene.live()
    assert overheard(scene) == []
    fetched = request(scene.eve, f"{MSG}.FETCH.{mine}", {"group_name": "secret-group", "config": {"max_wait_ms": 0}})
    assert fetched["messages"] == []


def test_what_the_operator_sees_names_nobodys_secrets(scene: Scene) -> None:
    scene.live()
    for subject, body in REQUESTS:
        request(scene.eve, subject.format(UNKNOWN), body)
        request(scene.eve, subject.format(scene.drop_id), body)
    scene.eve.send(f"SUB {MAILBOX}.MSG.{scene.drop_id} 1\r\nPUB {MAILBOX}.MSG.{UNKNOWN} 0\r\n\r\n".encode())
    scene.eve.fence()
    scene.anna.send(f"SUB {MAILBOX}.MSG.{scene.box} 1\r\nSUB {MAILBOX}.EVENTS.annas.named 2\r\n".encode())
    scene.anna.fence()
    assert scene.process.http_port is not None
    pages = (
        "/metrics",
        "/varz",
        "/connz?subs=detail&auth=1",
        "/connz?state=any&subs=1",
        "/subsz?subs=1",
        "/",
        "/healthz",
    )
    shown = "".join(get(scene.process.http_port, page)[1] for page in pages)
    assert "<hidden>" in shown
    scene.process.stop()
    shown += scene.process.log()
    assert "refused: 404 no such mailbox" in shown
    secrets = [scene.box, scene.drop_id, UNKNOWN, "annas.named", "secret", "_INBOX.annas", 'password = "']
    assert [secret for secret in secrets if secret in shown] == []
