"""What the client commands do, print and leave with, as real processes against a real broker."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mq9.cli import COMMANDS
from tests.cli.support import Command, objects
from tests.support.broker import clean_environment
from tests.support.peers import DEBIAN_NATS_SERVER, NatsServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODYS = "m-" + "a" * 26


def test_create_prints_the_mail_id_and_nothing_else(mq9: Command) -> None:
    said = mq9("create", "--ttl", "60")
    assert said.startswith("m-")
    assert len(said) == len("m-") + 26 + 1


def test_create_for_programs(mq9: Command, unique: Callable[[str], str]) -> None:
    name = unique("tasks")
    [first] = objects(mq9("create", name, "--ttl", "60", "--public", "--desc", "to do", "--json"))
    assert first.keys() == {
        *("mail_id", "drop_id", "is_new", "public", "ttl", "created_at", "expires_at", "owner_only"),
    }
    assert (first["mail_id"], first["is_new"], first["public"], first["ttl"]) == (name, True, True, 60)
    [again] = objects(mq9("create", name, "--ttl", "99", "--json"))
    assert (again["is_new"], again["ttl"]) == (False, 60)
    [renewed] = objects(mq9("create", name, "--ttl", "99", "--renew", "--json"))
    assert renewed["expires_at"] > first["expires_at"] + 30


def test_send_prints_the_msg_id_and_fetch_shows_the_message(mq9: Command) -> None:
    box = mq9("create", "--ttl", "60").strip()
    msg_id = mq9("send", box, "hello", "--priority", "high").strip()
    head, row = mq9("fetch", box).splitlines()
    assert head.split() == ["MSG_ID", "PRIORITY", "TIME", "BYTES", "BODY"]
    assert row.split()[:2] == [msg_id, "high"]
    assert row.split()[-2:] == ["5", "hello"]


def test_send_for_programs_with_everything(mq9: Command) -> None:
    box = mq9("create", "--ttl", "60").strip()
    sent = objects(
        mq9(
            "send", box, '{"a": [1]}', "--json", "--priority", "low", "--ttl", "50", "--reply-to", "answers",
            "--correlation-id", "c-1", "--header", "X-One: 1", "--header", "traceparent:00-ab",
        )
    )  # fmt: skip
    [message] = objects(mq9("fetch", box, "--json"))
    assert sent == [{"msg_id": message["msg_id"], "duplicate": False, "pending": 1, "receivers": 0}]
    assert message.keys() == {
        "msg_id", "priority", "time", "size", "headers", "reply_to", "correlation_id", "pending", "encoding", "payload",
    }  # fmt: skip
    assert message["payload"] == {"a": [1]}
    assert message["encoding"] == "json"
    assert message["size"] == 10
    assert (message["priority"], message["reply_to"], message["correlation_id"]) == ("low", "answers", "c-1")
    assert message["headers"]["X-One"] == "1"
    assert message["headers"]["traceparent"] == "00-ab"
    assert message["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_a_body_from_standard_input_is_sent_as_it_is(mq9: Command, arguments: list[str]) -> None:
    box = mq9("create", "--ttl", "60").strip()
    body = bytes(range(256))
    mq9("send", box, *arguments, stdin=body)
    [message] = objects(mq9("fetch", box, "--json"))
    assert message["encoding"] == "base64"
    assert base64.b64decode(message["payload"]) == body


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("hello", "text/plain; charset=utf-8"),
        ("17", "text/plain; charset=utf-8"),
        ("{not json", "text/plain; charset=utf-8"),
        (" [1, 2]", "application/json"),
    ],
)
def test_a_body_is_named_after_what_it_looks_like(mq9: Command, body: str, content_type: str) -> None:
    box = mq9("create", "--ttl", "60").strip()
    mq9("send", box, body)
    mq9("send", box, body, "--content-type", "text/x-mine")
    mq9("send", box, body, "--header", "Content-Type: text/x-yours")
    types = [message["headers"]["content-type"] for message in objects(mq9("fetch", box, "--json"))]
    assert types == [content_type, "text/x-mine", "text/x-yours"]


def test_fetch_narrows_down_and_tells_when_there_is_more(mq9: Command) -> None:
    box = mq9("create", "--ttl", "60").strip()
    ids = [mq9("send", box, str(n), "--priority", "high" if n == 2 else "low").strip() for n in range(3)]
    ran = mq9.run("fetch", box, "--limit", "1")
    assert ran.stderr == f"there are more: --after {ids[0]}\n"
    assert len(ran.stdout.splitlines()) == 2
    assert [str(message["msg_id"]) for message in objects(mq9("fetch", box, "--after", ids[0], "--json"))] == ids[1:]
    assert [message["payload"] for message in objects(mq9("fetch", box, "--priority", "high", "--json"))] == ["2"]
    assert objects(mq9("fetch", box, "--since", str(time.time() + 100), "--json")) == []
    assert len(objects(mq9("fetch", box, "--limit", "1", "--all", "--json"))) == 3
    [bare, *_] = objects(mq9("fetch", box, "--no-payload", "--json"))
    assert "payload" not in bare
    assert bare["size"] == 1


def test_receive_prints_what_is_stored_highest_first_and_leaves_after_the_count(mq9: Command) -> None:
    box = mq9("create", "--ttl", "60").strip()
    for priority in ("low", "high", "normal"):
        mq9("send", box, f"{priority} body", "--priority", priority)
    lines = mq9("receive", box, "--count", "3").splitlines()
    assert [line.split()[1] for line in lines] == ["high", "normal", "low"]
    assert lines[0].endswith("high body")
    got = objects(mq9("receive", box, "--count", "3", "--json"))
    assert [message["pending"] for message in got] == [2, 1, 0]
    assert [message["payload"] for message in got] == ["high body", "normal body", "low body"]
    assert mq9("receive", box, "--count", "1", "--priority", "low", "--body") == "low body\n"


def test_receive_leaves_when_nothing_has_come_for_a_while(mq9: Command) -> None:
    box = mq9("create", "--ttl", "60").strip()
    assert mq9("receive", box, "--wait", "0.1") == ""
    mq9("send", box, "x")
    assert len(mq9("receive", box, "--wait", "0.5").splitlines()) == 1
    ran = mq9.run("receive", box, "--wait", "0.5", "--count", "2", "--json")
    assert ran.returncode == 5
    assert len(objects(ran.stdout)) == 1


def test_receive_prints_messages_as_they_come_and_ends_with_the_mailbox(mq9: Command) -> None:
    box = mq9("create", "--ttl", "60").strip()
    with mq9.start("receive", box, "--json") as receiving:
        assert receiving.stdout is not None
        for body in ("one", "two"):
            mq9("send", box, body)
            assert json.loads(receiving.stdout.readline())["payload"] == body
        mq9("delete", box, "--mailbox")
        said, complained = receiving.communicate(timeout=30)
    assert (said, complained, receiving.returncode) == (b"", b"mq9: the mailbox has ended (removed)\n", 0)


def test_receive_ends_quietly_when_it_is_interrupted(mq9: Command) -> None:
    box = mq9("create", "--ttl", "60").strip()
    mq9("send", box, "x")
    with mq9.start("receive", box) as receiving:
        assert receiving.stdout is not None
        receiving.stdout.readline()
        receiving.send_signal(signal.SIGINT)
        said, complained = receiving.communicate(timeout=30)
    assert (said, complained, receiving.returncode) == (b"", b"", 130)


@pytest.mark.parametrize("command", [["receive"], ["list", "--watch"]])
def test_a_reader_that_leaves_ends_the_command_quietly(
    mq9: Command, unique: Callable[[str], str], command: list[str]
) -> None:
    name = unique("piped")
    mq9("create", name, "--public", "--ttl", "60")
    mq9("send", name, "one")
    arguments = [*command, name] if command == ["receive"] else command
    with mq9.start(*arguments) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        mq9("send", name, "two")
        for n in range(100):  # whatever it is waiting for comes, until it notices that nobody reads
            if running.poll() is not None:
                break
            mq9("create", f"{name}.{n}", "--public", "--ttl", "60")
        running.wait(30)
        assert running.stderr.read() == b""
    assert running.returncode == 141


def test_delete_tells_what_was_not_there(mq9: Command) -> None:
    box = mq9("create", "--ttl", "60").strip()
    ids = [mq9("send", box, str(n)).strip() for n in range(3)]
    assert mq9("delete", box, ids[0]) == ""
    ran = mq9.run("delete", box, ids[0], ids[1])
    assert (ran.returncode, ran.stderr) == (4, f"mq9: there is no message {ids[0]} in this mailbox\n")
    ran = mq9.run("delete", box, ids[1], ids[2], "--json")
    assert ran.returncode == 4
    assert objects(ran.stdout) == [
        {"msg_id": int(ids[1]), "deleted": False},
        {"msg_id": int(ids[2]), "deleted": True},
    ]
    assert objects(mq9("delete", box, "--mailbox", "--json")) == [{"mail_id": box, "deleted": True}]
    assert mq9.run("fetch", box).returncode == 4


def test_list_shows_the_public_mailboxes(mq9: Command, unique: Callable[[str], str]) -> None:
    name = unique("shown")
    mq9("create", name, "--public", "--ttl", "60", "--desc", "two words")
    mq9("send", name, "x")
    head, row = mq9("list", "--prefix", name).splitlines()
    assert head.split() == ["MAIL_ID", "MESSAGES", "CREATED", "EXPIRES", "DESCRIPTION"]
    assert row.split()[:2] == [name, "1"]
    assert row.endswith("two words")
    [described] = objects(mq9("list", "--prefix", name, "--json"))
    assert described.keys() == {"mail_id", "desc", "ttl", "created_at", "expires_at", "messages"}
    assert (described["mail_id"], described["desc"], described["messages"]) == (name, "two words", 1)


def test_list_watches(mq9: Command, unique: Callable[[str], str]) -> None:
    name = unique("watched")
    mq9("create", name, "--public", "--ttl", "60")
    with mq9.start("list", "--watch", "--prefix", name, "--json") as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["event"] == "created"
        mq9("create", name, "--renew", "--ttl", "600")
        assert json.loads(watching.stdout.readline())["event"] == "renewed"
        mq9("delete", name, "--mailbox")
        gone = json.loads(watching.stdout.readline())
        assert (gone["event"], gone["mail_id"]) == ("removed", name)
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=30)
    assert watching.returncode == 130


def test_bodies_cannot_take_over_the_terminal(mq9: Command) -> None:
    box = mq9("create", "--ttl", "60").strip()
    mq9("send", box, stdin=b"\x1b[2Jevil\r\nlines")
    mq9("send", box, stdin=b"\xff\x00")
    for said in (mq9("fetch", box), mq9("receive", box, "--count", "2")):
        assert "\x1b" not in said
        assert "\\x1b[2Jevil\\r\\nlines" in said
        assert "(2 bytes) ff 00" in said


def test_the_bodies_alone_are_printed_as_they_were_sent(mq9: Command) -> None:
    box = mq9("create", "--ttl", "60").strip()
    mq9("send", box, stdin=b"\x1b\xff\x00")
    with mq9.start("receive", box, "--count", "1", "--body") as receiving:
        said, complained = receiving.communicate(timeout=30)
    assert (said, complained, receiving.returncode) == (b"\x1b\xff\x00\n", b"", 0)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["fetch", NOBODYS], 4, "mailbox"),
        (["receive", NOBODYS], 4, "mailbox"),
        (["send", NOBODYS, "x"], 4, "mailbox"),
        (["delete", NOBODYS, "1"], 4, "mailbox"),
        (["status", NOBODYS, "1"], 4, "mailbox"),
        (["reply", NOBODYS, "1", "x"], 4, "mailbox"),
        (["request", NOBODYS, "x"], 4, "mailbox"),
        (["receive", NOBODYS, "--group", "g"], 4, "mailbox"),
        (["work", NOBODYS, "--group", "g", "--exec", "true"], 4, "mailbox"),
        (["work", "x", "--group", "g g", "--exec", "true"], 1, "group"),
        (["send", NOBODYS, "x", "--tag", "a,b"], 1, "tag"),
        (["delete", NOBODYS, "--mailbox"], 4, "mailbox"),
        (["fetch", "a..b"], 1, "mail_id"),
        (["create", "--public"], 1, "name"),
        (["create", "m-mine"], 1, "m-"),
        (["send", NOBODYS, "x", "--header", "a b: c"], 1, "header"),
        (["fetch", "x", "--server", "http://localhost"], 1, "address of a broker"),
    ],
)
def test_a_refusal_is_one_sentence_and_its_code(mq9: Command, arguments: list[str], code: int, sentence: str) -> None:
    ran = mq9.run(*arguments)
    assert ran.returncode == code, ran
    assert ran.stdout == ""
    assert ran.stderr.startswith("mq9: ")
    assert ran.stderr.count("\n") == 1
    assert sentence in ran.stderr
    assert NOBODYS not in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["send"],
        ["send", "box", "x", "--priority", "asap"],
        ["send", "box", "x", "--ttl", "-1"],
        ["send", "box", "x", "--header", "nocolon"],
        ["receive", "box", "--count", "0"],
        ["receive", "box", "--json", "--body"],
        ["fetch", "box", "--limit", "0"],
        ["delete", "box"],
        ["delete", "box", "1", "--mailbox"],
        ["delete", "box", "one"],
        ["reply", "box", "1", "x", "--correlation-id", "c"],
        ["revive", "box", "1"],
        ["revive", "box", "--group", "g"],
        ["revive", "box", "1", "--group", "g", "--all"],
        ["receive", "box", "--group", "g", "--priority", "high"],
        ["fetch", "box", "--dead", "g", "--key", "k"],
        ["work", "box", "--group", "g"],
        ["work", "box", "--exec", "true"],
        ["work", "box", "--group", "g", "--exec", "true", "--concurrency", "0"],
        ["work", "box", "--group", "g", "--exec", "true", "--lease", "0"],
        ["send", "box", "x", "--delay", "-1"],
        ["list", "--timeout", "0"],
    ],
)
def test_a_wrong_use_leaves_with_2(mq9: Command, arguments: list[str]) -> None:
    ran = mq9.run(*arguments)
    assert ran.returncode == 2, ran
    assert "Usage: mq9" in ran.stderr


def test_a_broker_that_is_not_there_leaves_with_3() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    ran = Command("nats://127.0.0.1:1").run("list", "--server", url, "--timeout", "0.5")
    assert ran.returncode == 3
    assert ran.stderr == f"mq9: cannot reach a broker at {url[7:]}: connection refused; is the broker running?\n"


def test_a_plain_nats_server_leaves_with_1() -> None:
    with NatsServer(DEBIAN_NATS_SERVER) as server:
        ran = Command(server.url).run("list")
    assert ran.returncode == 1
    assert ran.stderr == f"mq9: the NATS server at 127.0.0.1:{server.port} is not an mq9 broker: it has no mailboxes\n"


def test_the_client_commands_load_nothing_of_the_broker(mq9: Command) -> None:
    code = (
        "import sys\nfrom mq9.cli import main\ntry:\n    main(['create', '--ttl', '60'])\nexcept SystemExit as end:\n"
        "    print(end.code, [name for name in sys.modules if name.startswith(('mq9.server', 'uvloop', 'lmdb'))])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=mq9.environment, timeout=30)
    assert said.stdout.splitlines()[-1] == "0 []"


def test_help_names_every_command_and_loads_none() -> None:
    code = (
        "import sys\nfrom mq9.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n"
        "    print([name for name in sys.modules if name.startswith(('mq9.server', 'mq9.sdk.link', 'nats'))])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean_environment(), timeout=30
    )
    lines = said.stdout.splitlines()
    assert lines[-1] == "[]"
    for command in COMMANDS:
        assert any(line.split()[:1] == [command] for line in lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(mq9: Command, command: str) -> None:
    assert f"Usage: mq9 {command}" in mq9(command, "--help")


def test_the_version_is_told(mq9: Command) -> None:
    from mq9.version import VERSION

    assert VERSION in mq9("--version")
