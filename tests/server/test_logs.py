"""What the broker logs: one line per event, as text or as JSON, of the level that was asked for, and no secret in any.

docs/operations.md, "Logs".
"""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest

from mq9 import Broker, Mailbox
from mq9.server.logs import JsonFormatter, TextFormatter
from tests.store.post import MAILBOX, Post
from tests.store.test_damage import Damager
from tests.support.broker import BrokerProcess, clean_environment
from tests.support.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS: Final = {"time", "level", "message", "template", "client", "address", "exception"}
TEXT_LINE: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) \S.*")
PATIENCE_S: Final = 10.0


def record(message: str, *values: object, **extra: Any) -> logging.LogRecord:
    """A record as the broker's logger makes it."""
    return logging.getLogger("mq9").makeRecord(
        "mq9", logging.INFO, "session.pyx", 1, message, values, None, extra=extra
    )


def failure(sentence: str) -> logging.LogRecord:
    """A record with a traceback."""
    try:
        raise ValueError(sentence)
    except ValueError:
        return logging.getLogger("mq9").makeRecord(
            "mq9", logging.ERROR, "session.pyx", 1, "an error of the broker's own", (), sys.exc_info()
        )


def lines(broker: BrokerProcess) -> list[str]:
    """What a broker has logged: all it has said but its first line, which says what listens where."""
    return [line for line in broker.log().splitlines() if "listening" not in line and "nats://" not in line]


def wait_for(broker: BrokerProcess, what: str) -> str:
    """The line of its log that has `what` in it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := [line for line in lines(broker) if what in line]):
        assert time.monotonic() < deadline, broker.log()
        time.sleep(0.01)
    return found[0]


def port_of(broker: BrokerProcess) -> int:
    """Where it listens."""
    return urlsplit(broker.url).port or 0


# lines


def test_a_line_of_text_is_as_it_always_was() -> None:
    line = TextFormatter().format(record("client %d (%s): refused: %s", 7, "10.0.0.9", "an empty subject"))
    assert TEXT_LINE.fullmatch(line)
    assert line.endswith(" INFO client 7 (10.0.0.9): refused: an empty subject")


def test_a_line_of_json_has_the_keys_that_are_documented() -> None:
    said = json.loads(JsonFormatter().format(record("client %d was cut off", 7, client=7, address="10.0.0.9")))
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "info",
        "message": "client 7 was cut off",
        "template": "client %d was cut off",
        "client": 7,
        "address": "10.0.0.9",
    }


@pytest.mark.parametrize("kind", [TextFormatter, JsonFormatter])
@pytest.mark.parametrize("hostile", ["\n", "\r\n", "\x1b[2J", "\x85", "\u2028", "\x00", '"}', "\x9b31m"])
def test_nobody_can_write_lines_of_their_own(kind: Callable[[], logging.Formatter], hostile: str) -> None:
    line = kind().format(record("client %d: refused: %s", 7, f"a{hostile}2026-01-01 INFO b"))
    assert line.splitlines() == [line]
    assert "\x1b" not in line
    assert "\x9b" not in line
    assert kind().format(failure(f"first{hostile}second")).count("\n") == 0


@pytest.mark.parametrize("kind", [TextFormatter, JsonFormatter])
@pytest.mark.parametrize("secret", ["m-" + "k7" * 13, "d-" + "q2" * 13])
def test_a_secret_is_cut_wherever_it_comes_from(kind: Callable[[], logging.Formatter], secret: str) -> None:
    for made in (record("about %s", secret), record(f"about {secret}"), failure(f"cannot read {secret}")):
        line = kind().format(made)
        assert secret not in line
        assert secret[:6] in line


# the broker


def offend(broker: BrokerProcess, subject: str) -> None:
    """Have something refused."""
    client = RawClient(port_of(broker)).connect()
    client.send(b"PUB %b 2\r\nhi\r\n" % subject.encode())
    assert client.fence() == [b"-ERR 'Permissions Violation for Publish to \"%b\"'" % subject.encode()]
    client.hang_up()


def test_json_is_one_object_per_line(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", arguments=["--log-format", "json", "--log-level", "debug"]) as broker:
        offend(broker, "$mq9.nothing.of.the.kind")
        wait_for(broker, "refused")
        broker.send_signal(signal.SIGHUP)
        wait_for(broker, "was read again")
        broker.stop()
        said = [json.loads(line) for line in lines(broker)]
    assert {key for event in said for key in event} <= KEYS
    (refusal,) = [event for event in said if "refused" in event["message"]]
    assert refusal["level"] == "info"
    assert refusal["template"] == "client %d (%s): refused: %s"
    assert refusal["client"] > 0
    assert refusal["address"].startswith("127.0.0.1")
    assert f"client {refusal['client']} ({refusal['address']})" in refusal["message"]


def test_text_is_one_line_per_event(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker:
        offend(broker, "$mq9.nothing.of.the.kind")
        wait_for(broker, "refused")
        broker.stop()
        assert all(TEXT_LINE.fullmatch(line) for line in lines(broker)), broker.log()


def test_less_than_the_level_is_not_logged(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", arguments=["--log-level", "error"]) as broker:
        offend(broker, "$mq9.nothing.of.the.kind")
        broker.stop()
        assert lines(broker) == []


def test_sighup_reads_the_level_and_the_format_again(tmp_path: Path) -> None:
    file = tmp_path / "mq9.toml"
    file.write_text('log_level = "error"\n')
    with BrokerProcess(tmp_path / "data", arguments=["--config", str(file)]) as broker:
        offend(broker, "$mq9.nothing")
        file.write_text('log_level = "info"\nlog_format = "json"\n')
        broker.send_signal(signal.SIGHUP)
        assert json.loads(wait_for(broker, "was read again"))["level"] == "info"
        offend(broker, "$mq9.something")
        json.loads(wait_for(broker, "refused"))
        file.write_text("log_level = \n")
        broker.send_signal(signal.SIGHUP)
        said = json.loads(wait_for(broker, "stays as it was"))
        assert said["level"] == "error"
        assert str(file) in said["message"]
        offend(broker, "$mq9.something")
        assert json.loads(lines(broker)[-1])["template"] == "client %d (%s): refused: %s"
        assert broker.stop() == 0


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("log_level", "loud", "debug, info, warning, error"), ("log_format", "xml", "text, json")],
)
def test_a_word_that_is_none_stops_the_start(tmp_path: Path, key: str, value: str, words: str) -> None:
    for given in ([f"--{key.replace('_', '-')}", value], []):
        environment = clean_environment() | ({} if given else {f"MQ9_{key.upper()}": value})
        ran = subprocess.run(
            [sys.executable, "-m", "mq9", "serve", "--memory", "--port", "0", *given],
            capture_output=True,
            text=True,
            timeout=30,
            env=environment,
            check=False,
        )
        assert ran.returncode == 1
        assert f"{key} must be one of {words}, not '{value}'" in ran.stderr


def test_secrets_are_in_no_line(tmp_path: Path) -> None:
    """A private mail_id and a drop_id said in every way in which something is refused, fails or is found damaged."""
    arguments = ["--log-level", "debug"]
    with BrokerProcess(tmp_path / "data", arguments=arguments) as broker:
        with Post(broker.url) as post:
            box = post.create(ttl=60)
            secrets = [box["mail_id"], box["drop_id"]]
            post.send_all(secrets[0], [b"about to be damaged %d" % number for number in range(5)])
            post.send(secrets[0], b"behind it")
        for secret in secrets:
            misuse(broker, secret)
        wait_for(broker, "more refusals are counted only")
        broker.kill()
        said = broker.log()
        with Damager(tmp_path / "data") as damager:
            damager.damage_block(b"about to be damaged 3", lambda data: data.__setitem__(-1, data[-1] ^ 1))
        broker.start()
        with Post(broker.url) as post:
            post.fetch(secrets[0])
        assert "is lost" in broker.log() or "are lost" in broker.log()
        broker.stop()
        said += broker.log()
    assert "refused" in said
    for secret in secrets:
        assert secret not in said
        assert secret[2:] not in said


def misuse(broker: BrokerProcess, secret: str) -> None:
    """Everything that a client can do wrong with a mailbox that it knows of."""
    key = secret.encode()
    wrong = [
        b"PUB $mq9.AI.MAILBOX.MSG.%b.* 2\r\nhi\r\n" % key,
        b"PUB $mq9.AI.MAILBOX.MSG.%b.none.of.these 2\r\nhi\r\n" % key,
        b"PUB $mq9.AI.MAILBOX.MSG.%b.%b 2\r\nhi\r\n" % (key, key),
        b"PUB $mq9.AI.MAILBOX.LIST.%b 2\r\nhi\r\n" % key,
        b"PUB $mq9.%b 2\r\nhi\r\n" % key,
        b"PUB %b.$mq9 %b 2\r\nhi\r\n" % (key, key),
        b"HPUB $mq9.AI.MAILBOX.MSG.%b 28 30\r\nNATS/1.0\r\nmq9-ttl: never\r\n\r\nhi\r\n" % key,
        b"SUB $mq9.AI.MAILBOX.MSG.%b.> 7\r\n" % key,
        b"SUB $mq9.AI.MAILBOX.NONE.%b 8\r\n" % key,
        b"SUB $mq9.AI.MAILBOX.MSG.%bx 9\r\n" % key,
        b"SUB %b..b 10\r\n" % key,
        b"SUB $mq9.AI.MAILBOX.MSG.%b workers%b 11\r\n" % (key, key),
    ]
    for line in wrong:
        with_client(broker, line)
    with_client(broker, b"".join(wrong) * 2)
    for last in (b"%b\r\n", b"PUB $mq9.AI.MAILBOX.MSG.%b nine\r\n", b"CONNECT {%b\r\n", b"SUB %b\r\n", b"-ERR %b\r\n"):
        with_client(broker, last % key)
    with Post(broker.url) as post:
        for request in ({"limit": secret}, {"key": [secret]}, {"dead": {"a": secret}}):
            assert post.ask(f"{MAILBOX}.LIST.{secret}", request)["code"] in {400, 403}
        for subject in ("FETCH", "ACK"):
            post.ask(f"$mq9.AI.MSG.{subject}.{secret}", {"group_name": f"{secret} *", "msg_id": secret})


def with_client(broker: BrokerProcess, line: bytes) -> None:
    """Send something, and hear the answer to it."""
    client = RawClient(port_of(broker)).connect()
    client.send(line + b"PING\r\n")
    while client.frame() not in (b"PONG", None):
        pass
    client.hang_up()


# a broker that is embedded


def test_a_program_that_embeds_a_broker_keeps_control(capsys: pytest.CaptureFixture[str]) -> None:
    before = (logging.root.handlers[:], logging.root.level, logging.getLogger("mq9").handlers[:])
    with Broker() as broker, Mailbox(broker.url) as mailbox:
        mailbox.create(ttl=60)
    assert (logging.root.handlers[:], logging.root.level, logging.getLogger("mq9").handlers[:]) == before
    assert capsys.readouterr() == ("", "")
