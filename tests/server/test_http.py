"""/healthz and /metrics."""

from __future__ import annotations

import http.client
import re
from urllib.parse import urlsplit

from mq9.server.config import Config
from mq9.server.embedded import Broker
from tests.server.support import create, publish, request
from tests.support.broker import BrokerProcess
from tests.support.rawclient import RawClient


def get(port: int, path: str, token: str = "", scheme: str = "Bearer") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"{scheme} {token}"} if token else {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_metrics_count_what_happened_and_name_no_mailbox() -> None:
    with BrokerProcess(None, http=True) as process:
        assert process.http_port is not None
        assert get(process.http_port, "/healthz") == (200, '{"status":"ok"}\n')
        assert get(process.http_port, "/nothing")[0] == 404
        port = urlsplit(process.url).port
        assert port is not None
        with RawClient(port).connect() as client, RawClient(port).connect() as receiver:
            name = create(client, ttl=60)
            receiver.send(f"SUB $mq9.AI.MAILBOX.MSG.{name} 1\r\n".encode())
            for _ in range(3):
                client.send(publish(f"$mq9.AI.MAILBOX.MSG.{name}", b"12345"))
                assert receiver.frame() is not None
            assert request(client, "$mq9.AI.MAILBOX.LIST.nobody") == {"error": "no such mailbox", "code": 404}
            text = get(process.http_port, "/metrics")[1]
            values = dict(re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE))
            assert values["mq9_connections"] == "2.0"
            assert values["mq9_mailboxes"] == "1.0"
            assert values["mq9_mail_in_total"] == "3.0"
            assert values["mq9_stored_messages"] == "3.0"
            assert float(values["mq9_stored_bytes"]) == 3 * (32 + 5)
            assert values['mq9_refusals_total{reason="404"}'] == "1.0"
            assert float(values["mq9_commits_total"]) == float(values["mq9_commit_seconds_count"]) >= 2
            assert float(values["mq9_bytes_in_total"]) > 0
            assert name not in text
        assert name not in process.log()


def test_a_token_is_needed_where_there_is_one() -> None:
    with Broker(config=Config(http_port=0, http_token="let me in")) as broker:
        assert broker._server is not None
        assert broker._server.http is not None
        port = broker._server.http.port
        for path in ("/metrics", "/", "/nothing"):
            for shown in ("", "wrong", "let me", "let me in, please"):
                status, said = get(port, path, shown)
                assert (status, "let me" in said) == (401, False)
        assert get(port, "/metrics", "let me in", "Basic")[0] == 401
        assert get(port, "/metrics", "let me in")[0] == 200
        assert get(port, "/metrics", "let me in", "bearer")[0] == 200
        assert get(port, "/nothing", "let me in")[0] == 404
        assert get(port, "/healthz") == (200, '{"status":"ok"}\n')


def test_a_client_of_http_that_says_nothing_holds_nobody_up() -> None:
    with BrokerProcess(None, http=True) as process:
        assert process.http_port is not None
        silent = http.client.HTTPConnection("127.0.0.1", process.http_port, timeout=10)
        silent.connect()
        assert get(process.http_port, "/healthz")[0] == 200
        silent.close()
