"""/varz, /connz and /subsz: what nats-server says, said by mq9 of the same clients; and no mail_id in any of it."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

from mq9.server.monitoring import go_duration, go_uptime, shown_subject, shown_text
from mq9.server.userconfig import UserConfig
from tests.server.support import ThreadedServer, create, publish, request, until
from tests.support.certificates import Certificates
from tests.support.peers import MONITOR, NEW_NATS_SERVER, NatsServer, free_port, need
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S: Final = 20.0
# What nats-server counts that there is nothing of here.
ELSEWHERE: Final = {
    *(
        "xkey",
        "api_lvl",
        "system_account",
        "config_digest",
        "stalled_clients",
        "write_deadline",
        "feature_flags",
        "disk_io_wait_stats",
    ),
}


class Monitored:
    """A server with a monitoring port: `clients` connects to it, `get` asks the port."""

    def __init__(self, port: int, http_port: int) -> None:
        self.port = port
        self.http_port = http_port

    def client(self, **options: object) -> RawClient:
        """A client that has said CONNECT."""
        return RawClient(self.port).connect(**options)

    def ask(self, path: str) -> tuple[int, str, str]:
        """The status, the content type and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The JSON."""
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)


def mq9_http(broker: ThreadedServer) -> Monitored:
    assert broker.server.http is not None
    return Monitored(broker.server.port, broker.server.http.port)


@pytest.fixture(params=["mq9", NEW_NATS_SERVER])
def server(request: pytest.FixtureRequest) -> Iterator[Monitored]:
    """mq9 and nats-server in turn."""
    if request.param == "mq9":
        with ThreadedServer(http_port=0) as broker:
            yield mq9_http(broker)
    else:
        http_port = free_port()
        with NatsServer(request.param, "-m", str(http_port)) as peer:
            yield Monitored(peer.port, http_port)


@pytest.fixture
def broker() -> Iterator[ThreadedServer]:
    with ThreadedServer(http_port=0) as running:
        yield running


def clients_of(answer: dict[str, Any]) -> list[str]:
    return [row.get("name", "") for row in answer["connections"]]


def test_what_nats_top_shows(server: Monitored) -> None:
    """nats-top reads the pages into nats-server's own types: each value must be of the type that is there."""
    with (
        server.client(name="two", lang="t", version="1") as two,
        server.client(name="one", lang="t", version="1") as one,
    ):
        two.send(b"SUB a 1\r\nSUB b 2\r\n" + publish("none", b"12"))
        one.send(b"SUB a 1\r\n")
        one.fence()
        two.send(publish("a", b"123"))
        two.fence()
        one.fence()
        url = f"http://127.0.0.1:{server.http_port}"
        done = subprocess.run([need(MONITOR), url], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert re.fullmatch(r"2\.\d+\.\d+", shown["version"])
        assert (shown["in"], shown["out"], shown["connections"]) == ([2, 5], [2, 6], [2, 2, 2])
        assert shown["lines"] == ["two 2 0 1 2 3 5 t 1 2", "one 1 0 1 0 3 0 t 1 1"]
        assert shown["slow"] == 0
        assert [shown[what] for what in ("has_started", "has_memory", "has_closed", "durations")] == [True] * 4
        assert shown["fanout"] >= 2


def _named(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in answer["connections"] if "name" in row}


def test_the_whole_server(server: Monitored) -> None:
    with server.client(name="one") as client, server.client() as other:
        client.send(b"SUB a 1\r\nSUB b.* q 2\r\n" + publish("a", b"12345") + publish("b.c", b"1", headers={"k": "v"}))
        client.fence()
        other.fence()
        varz = server.get("/varz")
        assert varz["connections"] == 2
        assert varz["total_connections"] >= 2
        assert (varz["in_msgs"], varz["in_bytes"]) == (2, 5 + 18 + 1)
        assert (varz["out_msgs"], varz["out_bytes"]) == (2, 5 + 18 + 1)
        assert varz["slow_consumers"] == 0
        assert varz["subscriptions"] >= 2
        assert varz["ping_interval"] == 120_000_000_000
        assert varz["max_payload"] == 1_048_576
        assert varz["mem"] > 1_000_000
        assert varz["port"] == server.port
        assert varz["http_port"] == server.http_port
        assert varz["http_req_stats"]["/varz"] == 1
        assert re.fullmatch(r"\d+s", varz["uptime"])


def test_nothing_that_tools_read_of_the_server_is_missing() -> None:
    http_port = free_port()
    with NatsServer(NEW_NATS_SERVER, "-m", str(http_port)) as peer, ThreadedServer(http_port=0) as broker:
        theirs = Monitored(peer.port, http_port)
        ours = mq9_http(broker)
        assert _shape(theirs.get("/varz")).items() - _shape(ours.get("/varz")).items() == {
            (name, kind) for name, kind in _shape(theirs.get("/varz")).items() if name in ELSEWHERE
        }
        with theirs.client(name="x", lang="t", version="1"), ours.client(name="x", lang="t", version="1"):
            query = "/connz?subs=1&auth=1"
            assert _shape(theirs.get(query)) == _shape(ours.get(query))
            mine, others = (each.get(query)["connections"][0] for each in (ours, theirs))
            # nats-server calls the account name_tag when it is the only one.
            assert _shape(others).keys() - {"name_tag", "rtt"} == _shape(mine).keys() - {"account", "rtt"}
            assert _shape(theirs.get("/subsz")) == _shape(ours.get("/subsz"))


def _shape(answer: dict[str, Any]) -> dict[str, str]:
    return {
        key: "number" if isinstance(value, float) else type(value).__name__.replace("int", "number")
        for key, value in answer.items()
    }


def test_each_connection(server: Monitored) -> None:
    with (
        server.client(name="first", lang="raw", version="1.2", echo=False) as first,
        server.client(name="second") as second,
    ):
        first.send(b"SUB a 7\r\nSUB a.> workers 8\r\nUNSUB 8 5\r\n")
        first.fence()
        second.send(publish("a", b"123") + publish("a.b", b"4567"))
        second.fence()
        first.fence()
        answer = server.get("/connz?subs=detail")
        assert (answer["num_connections"], answer["total"], answer["offset"], answer["limit"]) == (2, 2, 0, 1024)
        one, two = answer["connections"]
        assert one["cid"] < two["cid"]
        assert (one["name"], one["lang"], one["version"]) == ("first", "raw", "1.2")
        assert (one["kind"], one["type"], one["ip"]) == ("Client", "nats", "127.0.0.1")
        assert (one["in_msgs"], one["in_bytes"], one["out_msgs"], one["out_bytes"]) == (0, 0, 2, 7)
        assert (two["in_msgs"], two["in_bytes"], two["out_msgs"], two["out_bytes"]) == (2, 7, 0, 0)
        assert (one["subscriptions"], two["subscriptions"]) == (2, 0)
        # nats-server counts what it is writing until it is back from that, and the client may have read it before.
        until(lambda: server.get("/connz")["connections"][0]["pending_bytes"] == 0, "nothing is pending")
        found = {
            (row["subject"], row.get("qgroup"), row["sid"], row["msgs"], row.get("max"))
            for row in one["subscriptions_list_detail"]
        }
        assert found == {("a", None, "7", 1, None), ("a.>", "workers", "8", 1, 5)}
        listed = server.get(f"/connz?subs=1&cid={one['cid']}")["connections"]
        assert [sorted(row["subscriptions_list"]) for row in listed] == [["a", "a.>"]]
        assert clients_of(server.get("/connz?limit=1")) == ["first"]
        assert clients_of(server.get("/connz?offset=1")) == ["second"]
        assert clients_of(server.get("/connz?cid=999")) == []
        assert (
            clients_of(server.get("/connz?acc=other")) == [] if server.get("/connz?acc=other")["connections"] else True
        )


def have_left(server: Monitored, query: str) -> list[dict[str, Any]]:
    """Those of the closed connections that `query` asks for, as soon as there is one."""
    deadline = time.monotonic() + PATIENCE_S
    while not (rows := server.get(f"/connz?state=closed&{query}")["connections"]):
        assert time.monotonic() < deadline
    return list(rows)


def test_whose_the_connections_are() -> None:
    users = (UserConfig("anna", password="a"), UserConfig("ben", password="b"))
    with ThreadedServer(http_port=0, users=users) as broker:
        server = mq9_http(broker)
        varz = server.get("/varz")
        assert (varz["auth_required"], varz["auth_timeout"]) == (True, 2)
        with server.client(user="anna", **{"pass": "a"}), server.client(user="ben", **{"pass": "b"}):
            rows = server.get("/connz?auth=1")["connections"]
            assert [row["authorized_user"] for row in rows] == ["anna", "ben"]
            assert "authorized_user" not in server.get("/connz")["connections"][0]
            assert [row["cid"] for row in server.get("/connz?user=ben")["connections"]] == [rows[1]["cid"]]
            assert server.get("/connz?user=carl")["connections"] == []
        assert [row["authorized_user"] for row in have_left(server, "auth=1&user=anna")] == ["anna"]


def test_a_connection_over_tls(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    with ThreadedServer(http_port=0, **certificates.configuration()) as broker:
        server = mq9_http(broker)
        assert server.get("/varz")["tls_required"] is True
        with RawClient(server.port) as client:
            client.opened()
            client.secure(certificates.context()).connect().fence()
            (row,) = server.get("/connz")["connections"]
            assert (row["tls_version"], row["pending_bytes"]) == ("1.3", 0)
            assert row["tls_cipher_suite"].startswith("TLS_AES_")
        assert [row["tls_version"] for row in have_left(server, "auth=1")] == ["1.3"]


def test_the_order_of_connections(server: Monitored) -> None:
    """Each client has another place in another order; the orders are nats-server's."""
    with ExitStack() as stack:
        clients = {name: stack.enter_context(server.client(name=name)) for name in ("a", "b", "c")}
        clients["a"].send(b"SUB s 1\r\n" + publish("none", b"x" * 100))
        clients["b"].send(b"SUB s 1\r\nSUB t 2\r\nSUB u 3\r\n" + publish("none", b"") * 5)
        clients["c"].send(b"SUB s 1\r\nSUB s 2\r\n" + publish("none", b"xx") * 2)
        for client in clients.values():
            client.fence()
        clients["a"].send(publish("t", b"y" * 50) + publish("s", b"z") + publish("u", b""))
        for client in (clients["a"], *clients.values()):
            client.fence()
        orders = {
            sort: "".join(clients_of(server.get(f"/connz?sort={sort}")))
            for sort in ("cid", "start", "uptime", "subs", "msgs_from", "bytes_from", "msgs_to", "bytes_to")
        }
        assert orders == {
            "cid": "abc",
            "start": "abc",
            "uptime": "cba",
            "subs": "bca",
            "msgs_from": "bac",
            "bytes_from": "acb",
            "msgs_to": "bca",
            "bytes_to": "bca",
        }


def test_connections_that_are_no_more(server: Monitored) -> None:
    with server.client(name="stays") as stays:
        with server.client(name="left") as left:
            left.send(b"SUB a 1\r\n" + publish("a", b"1"))
            left.fence()
            left.finish()
            left.rest()
        with server.client(name="wrong") as wrong:
            wrong.send(b"NONSENSE\r\n")
            wrong.rest()
        deadline = time.monotonic() + PATIENCE_S
        while (closed := _named(server.get("/connz?state=closed&sort=stop"))).keys() != {"left", "wrong"}:
            assert time.monotonic() < deadline
        assert closed["left"]["reason"] == "Client Closed"
        assert closed["wrong"]["reason"] in {"Protocol Violation", "Parse Error"}
        assert (closed["left"]["in_msgs"], closed["left"]["out_msgs"], closed["left"]["subscriptions"]) == (1, 1, 1)
        assert closed["left"]["stop"] >= closed["left"]["start"]
        assert clients_of(server.get("/connz")) == ["stays"]
        assert _named(server.get("/connz?state=any")).keys() == {"left", "stays", "wrong"}
        assert server.get("/varz")["connections"] == 1
        stays.fence()


def test_the_closed_connections_that_are_remembered_have_a_limit() -> None:
    with ThreadedServer(http_port=0, max_closed_clients=3) as broker:
        server = mq9_http(broker)
        for number in range(5):
            with server.client(name=str(number)) as client:
                client.finish()
                client.rest()
        assert clients_of(server.get("/connz?state=closed")) == ["2", "3", "4"]


def test_subscriptions(server: Monitored) -> None:
    with server.client() as client:
        client.send(b"SUB zebra.* 1\r\nSUB zebra.a q 2\r\nSUB lion 3\r\n")
        client.fence()
        answer = server.get("/subsz")
        assert answer["num_subscriptions"] >= 3
        assert answer["num_inserts"] >= 3
        assert "subscriptions_list" not in answer
        found = server.get("/subsz?subs=1&test=zebra.a")
        assert found["total"] == 2
        assert sorted((row["subject"], row.get("qgroup")) for row in found["subscriptions_list"]) == [
            ("zebra.*", None),
            ("zebra.a", "q"),
        ]
        assert len(server.get("/subsz?subs=1&test=zebra.a&limit=1")["subscriptions_list"]) == 1
        assert "subscriptions_list" not in server.get("/subsz?subs=1&test=nobody")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/connz?sort=foo", "invalid sorting option: foo"),
        ("/connz?sort=stop", "sort by stop only valid on closed connections"),
        ("/connz?sort=reason", "sort by reason only valid on closed connections"),
        ("/connz?limit=a", "Error decoding int for 'limit'"),
        ("/connz?subs=x", "Error decoding boolean for 'subs'"),
        ("/connz?auth=maybe", "Error decoding boolean for 'auth'"),
        ("/connz?state=foo", "Error decoding state for foo"),
        ("/subsz?subs=1&test=a..b", "invalid test subject, must be valid publish subject: a..b"),
    ],
)
def test_what_cannot_be_asked(server: Monitored, path: str, says: str) -> None:
    status, kind, body = server.ask(path)
    assert (status, kind) == (400, "text/plain; charset=utf-8")
    assert body.startswith(says)


@pytest.mark.parametrize("variant", ["", "?js-enabled-only=true", "?js-server-only=1", "?details=1"])
def test_health(server: Monitored, variant: str) -> None:
    assert server.get(f"/healthz{variant}") == {"status": "ok"}


def test_what_is_not_there(server: Monitored) -> None:
    assert server.ask("/nothing")[0] == 404
    status, kind, body = server.ask("/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "connz" in body


def test_no_mail_id_is_shown(broker: ThreadedServer) -> None:
    server = mq9_http(broker)
    with server.client() as owner:
        private, named = create(owner), create(owner, name="plans.for.tuesday")
        drop_id = request(owner, "$mq9.AI.MAILBOX.CREATE", {"name": private, "renew": True})["drop_id"]
        with server.client(name=f"agent {private}", lang=drop_id, version=private) as client:
            for number, subject in enumerate(
                [
                    *(
                        f"$mq9.AI.MAILBOX.MSG.{mail_id}{tail}"
                        for mail_id in (private, named)
                        for tail in ("", ".*", ".high")
                    ),
                    *(f"$mq9.AI.MAILBOX.EVENTS.{mail_id}" for mail_id in (private, named)),
                    *(f"*.AI.MAILBOX.MSG.{mail_id}" for mail_id in (private, named)),
                    *(f"$mq9.*.*.*.{mail_id}" for mail_id in (private, named)),
                    f"my.own.subject.of.{private}",
                    "$mq9.AI.PUBLIC.LIST",
                ]
            ):
                client.send(f"SUB {subject} {number}\r\n".encode())
            client.send(f"SUB $mq9.AI.MAILBOX.MSG.{private} {private} {named[:5]}\r\n".encode())
            client.send(publish(f"$mq9.AI.MAILBOX.MSG.{private}", b"1"))
            assert not [frame for frame in client.fence() if frame.startswith(b"-ERR")]
            shown = "".join(
                server.ask(path)[2]
                for path in ("/connz?subs=1", "/connz?subs=detail&auth=1", "/subsz?subs=1", "/varz", "/metrics", "/")
            )
        shown += server.ask("/connz?state=closed&subs=detail")[2]
        assert '"$mq9.AI.MAILBOX.MSG.<hidden>"' in shown
        assert '"$mq9.AI.MAILBOX.EVENTS.<hidden>"' in shown
        assert '"$mq9.AI.PUBLIC.LIST"' in shown
        assert '"my.own.subject.of.m-<hidden>"' in shown
        for secret in (private, named, drop_id):
            assert secret not in shown
        # Nor can it be guessed: what is subscribed to a mailbox gets nothing that is published to a core subject.
        assert server.get(f"/subsz?subs=1&test=$mq9.AI.MAILBOX.MSG.{named}")["total"] == 0


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("a.b", "a.b"),
        ("$mq9.>", "$mq9.>"),
        ("$mq9.AI.*.>", "$mq9.AI.*.>"),
        ("*.*.*.*.*", "*.*.*.*.*"),
        ("$mq9.AI.MSG.FETCH.secret", "$mq9.AI.MSG.FETCH.<hidden>"),
        ("$mq9.AI.MAILBOX.*.se.cret", "$mq9.AI.MAILBOX.*.<hidden>"),
        ("*.AI.*.*.secret.>", "*.AI.*.*.<hidden>"),
        ("orders.AI.MAILBOX.MSG.new", "orders.AI.MAILBOX.MSG.new"),
    ],
)
def test_how_a_subject_is_shown(subject: str, shown: str) -> None:
    assert shown_subject(subject.encode()) == shown


def test_how_a_name_is_shown() -> None:
    assert (
        shown_text("agent m-abcdefghijklmnopqrstuvwxy2, d-abcdefghijklmnopqrstuvwxy2.")
        == "agent m-<hidden>, d-<hidden>."
    )
    assert shown_text("team-abcdef") == "team-abcdef"


def test_the_round_trip_is_measured(broker: ThreadedServer) -> None:
    server = mq9_http(broker)
    with server.client() as client, RawClient(server.port) as silent:
        silent.opened()

        def pass_time(seconds: float) -> None:
            for session in list(broker.server.hub.sessions.values()):
                session.check_alive(broker.loop.time() + seconds, 120.0, 2)

        broker.call(lambda: pass_time(1.9))
        assert client.fence() == []
        assert client.pings == 0
        broker.call(lambda: pass_time(2.1))
        assert client.fence() == []
        assert client.fence() == []
        assert client.pings == 1
        measured, unknown = (row["rtt"] for row in server.get("/connz")["connections"])
        assert re.fullmatch(r"[\d.]+(µs|ms)", measured)
        # Who has not said CONNECT is not asked yet.
        assert unknown == "0s"
        broker.call(lambda: pass_time(3_000))
        assert client.fence() == []
        broker.call(lambda: pass_time(3_700))
        assert client.fence() == []
        assert client.pings >= 2


def test_a_silent_client_of_the_port_and_many_of_them_hold_nobody_up(broker: ThreadedServer) -> None:
    server = mq9_http(broker)
    with ExitStack() as stack:
        silent = [stack.enter_context(RawClient(server.http_port)) for _ in range(80)]
        # More than there are threads for: the rest is hung up on, and those that wait keep their place.
        deadline = time.monotonic() + PATIENCE_S
        for each in silent[64:]:
            assert each.bytes_until_hung_up() == 0
    while True:
        try:
            assert server.get("/varz")["connections"] == 0
        except (http.client.HTTPException, ConnectionError):
            assert time.monotonic() < deadline
        else:
            break


def test_many_connections_are_listed_while_messages_pass(broker: ThreadedServer) -> None:
    server = mq9_http(broker)
    with ExitStack() as stack:
        many = [stack.enter_context(server.client(name=f"n{number}")) for number in range(600)]
        many[0].send(b"".join(b"SUB many.%d %d\r\n" % (number, number) for number in range(3_000)))
        many[0].fence()
        done = threading.Event()
        answers: list[dict[str, Any]] = []

        def ask() -> None:
            answers.extend(server.get("/connz?subs=1&sort=msgs_from&limit=1000") for _ in range(5))
            done.set()

        asking = threading.Thread(target=ask)
        asking.start()
        count = 0
        while not done.is_set():
            many[1].send(publish("many.7", b"x"))
            assert many[1].fence() == []
            assert many[0].frame() == b"MSG many.7 7 1\r\nx"
            count += 1
        asking.join()
        assert count > 0
        for answer in answers:
            assert answer["total"] == answer["num_connections"] == len(answer["connections"]) == 600
            listed = {row["name"]: row.get("subscriptions_list", []) for row in answer["connections"]}
            assert len(listed["n0"]) == 3_000
        assert answers[-1]["connections"][0]["name"] == "n1"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.0000005, "500ns"), (0.0005123, "512.3µs"), (0.25, "250ms"), (1.5, "1.5s"), (61, "61s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (59.9, "59s"),
        (60, "1m0s"),
        (3_661, "1h1m1s"),
        (86_400, "1d0h0m0s"),
        (400 * 86_400 + 5, "1y35d0h0m5s"),
    ],
)
def test_how_long_something_has_lasted(seconds: float, text: str) -> None:
    assert go_uptime(seconds) == text
