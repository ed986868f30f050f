"""A user's first mistakes, each as a program of its own: one readable sentence, and no traceback from our insides."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from mq9 import BadRequest, ConnectionFailed, Forbidden, Mailbox, MailboxError, Timeout, Unavailable
from mq9.sdk import errors
from tests.support.broker import clean_environment
from tests.support.peers import DEBIAN_NATS_SERVER, NatsServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

    from tests.support.broker import BrokerProcess

FACES = {
    "blocking": "from mq9 import Mailbox\nmb = Mailbox({url!r})\n{code}\n",
    "asynchronous": (
        "import asyncio\nfrom mq9 import AsyncMailbox\n"
        "async def main():\n    async with AsyncMailbox({url!r}) as mb:\n        await {code}\n"
        "asyncio.run(main())\n"
    ),
}


def fail(tmp_path: Path, face: str, url: str, code: str) -> str:
    """Run a program that makes the mistake `code`; returns the last line it says, after checking the rest."""
    program = tmp_path / "program.py"
    program.write_text(FACES[face].format(url=url, code=code))
    ran = subprocess.run(
        [sys.executable, "-X", "dev", program], capture_output=True, text=True, timeout=30, env=clean_environment()
    )
    assert ran.returncode == 1, ran
    said = ran.stderr.rstrip().splitlines()
    assert "During handling" not in ran.stderr
    assert "direct cause" not in ran.stderr
    frames = re.findall(r'File "([^"]+)"', ran.stderr)
    insides = [frame for frame in frames if frame != str(program) and "/asyncio/" not in frame]
    assert all("mq9/sdk" in frame for frame in insides), ran.stderr
    assert len(insides) <= 2, ran.stderr
    if face == "blocking":
        assert "/asyncio/" not in ran.stderr
    assert ran.stderr.count("Traceback") == 1, ran.stderr
    return said[-1]


@pytest.mark.parametrize("face", FACES)
class TestOneSentence:
    """The last line is the sentence, whichever face is used."""

    def test_the_broker_does_not_run(self, tmp_path: Path, face: str) -> None:
        port = free_port()
        started = time.monotonic()
        said = fail(tmp_path, face, f"nats://localhost:{port}", "mb.create(ttl=60)")
        assert said == (
            f"mq9.sdk.errors.ConnectionFailed: cannot reach a broker at localhost:{port}: "
            "connection refused; is the broker running?"
        )
        assert time.monotonic() - started < 10

    def test_the_mailbox_is_not_there(self, tmp_path: Path, face: str, broker: BrokerProcess) -> None:
        said = fail(tmp_path, face, broker.url, "mb.send('m-" + "a" * 26 + "', 'hello')")
        assert said.startswith("mq9.sdk.errors.NotFound: ")
        assert "m-aaaa" not in said

    def test_nobody_can_receive_from_a_mailbox_that_is_not_there(
        self, tmp_path: Path, face: str, broker: BrokerProcess
    ) -> None:
        said = fail(tmp_path, face, broker.url, "mb.receive('nobodys', print)")
        assert said.startswith("mq9.sdk.errors.NotFound: ")

    def test_the_payload_is_too_large(self, tmp_path: Path, face: str, broker: BrokerProcess) -> None:
        said = fail(tmp_path, face, broker.url, "mb.send('box', b'x' * 2_000_000)")
        assert said.startswith("mq9.sdk.errors.TooLarge: the message has 2000")

    def test_the_priority_is_none(self, tmp_path: Path, face: str, broker: BrokerProcess) -> None:
        said = fail(tmp_path, face, broker.url, "mb.send('box', 'x', priority='asap')")
        assert said == (
            "mq9.sdk.errors.BadRequest: priority must be one of critical, urgent, high, normal, low, not 'asap'"
        )

    def test_the_host_is_none(self, tmp_path: Path, face: str) -> None:
        said = fail(tmp_path, face, "nats://no-such-host.invalid:4222", "mb.create()")
        assert "cannot use the broker at no-such-host.invalid:4222: there is no host of this name" in said

    @pytest.mark.parametrize("code", ["mb.create()", "mb.receive('box', print)", "mb.list(print)"])
    def test_the_server_is_a_plain_nats_server(self, tmp_path: Path, face: str, code: str) -> None:
        with NatsServer(DEBIAN_NATS_SERVER) as server:
            said = fail(tmp_path, face, server.url, code)
        assert said.startswith("mq9.sdk.errors.Unavailable: the NATS server at 127.0.0.1:")
        assert said.endswith("is not an mq9 broker: it has no mailboxes")


@pytest.mark.parametrize(
    "url", ["", "http://localhost:4222", "nats://", "nats://host:port", "nats://a b", "nats://host:0", "nats://h:99999"]
)
def test_what_is_no_broker_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(BadRequest, match="address of a broker"):
        Mailbox(url)


@pytest.mark.parametrize("url", ["localhost", "localhost:4222", "nats://me:secret@localhost:4222", "tls://[::1]:4222"])
def test_what_may_be_a_broker_address_is_taken_without_connecting(url: str) -> None:
    with Mailbox(url) as client:
        assert "secret" not in repr(client)


class Listener:
    """Something that listens and is no broker: it says `greeting` to whoever connects."""

    def __init__(self, greeting: bytes) -> None:
        self._greeting = greeting
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._connections: list[socket.socket] = []
        self.url = f"nats://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        for connection in self._connections:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._connections.append(connection)
            connection.sendall(self._greeting)


INFO = (
    b'INFO {"server_id":"x","server_name":"x","version":"2.10.0","go":"x","host":"x","port":1,"proto":1,'
    b'"headers":true,"max_payload":1048576%s}\r\n'
)


@pytest.mark.parametrize(
    ("greeting", "sentence"),
    [
        (b"", "nothing answers"),
        (b"220 mail.example.com ESMTP\r\n", "is not a NATS server"),
        (b"INFO {no json\r\n", "is not a NATS server"),
        (b"INFO " + b"x" * 100_000 + b"\r\n", "is not a NATS server"),
        (INFO % b"", "nothing answers"),
        (INFO % b"" + b"PONG\r\n", "is not a NATS server"),
    ],
    ids=["silent", "smtp", "no json", "endless", "no pong", "nobody answers"],
)
def test_what_listens_but_is_no_broker_fails_in_time(greeting: bytes, sentence: str) -> None:
    with Listener(greeting) as listener, Mailbox(listener.url, connect_timeout=0.5, timeout=1) as client:
        started = time.monotonic()
        with pytest.raises((ConnectionFailed, Timeout)) as refusal:
            client.create()
        assert time.monotonic() - started < 5
        if isinstance(refusal.value, ConnectionFailed):
            assert sentence in str(refusal.value)
        else:
            assert sentence == "is not a NATS server"
            assert "did not answer within 1 s" in str(refusal.value)


def test_credentials_that_are_not_accepted_are_forbidden() -> None:
    refusal = INFO % b',"auth_required":true' + b"-ERR 'Authorization Violation'\r\n"
    with (
        Listener(refusal) as listener,
        Mailbox(listener.url, connect_timeout=5) as client,
        pytest.raises(Forbidden, match="credentials"),
    ):
        client.create()


def test_every_code_of_the_protocol_has_its_class() -> None:
    for code in (400, 403, 404, 409, 413, 429, 503, 507):
        error = errors.error_of(code, "a sentence")
        assert type(error) is not MailboxError
        assert (error.code, error.sentence, str(error)) == (code, "a sentence", "a sentence")
    assert type(errors.error_of(599, "new")) is MailboxError
    assert errors.error_of(599, "new").code == 599


def test_no_connection_and_no_answer_are_also_the_built_in_errors() -> None:
    assert issubclass(ConnectionFailed, ConnectionError)
    assert issubclass(Timeout, TimeoutError)
    assert ConnectionFailed("x").code == 0


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], Mailbox]]:
    """Clients of a nats-server on which something else than mq9 answers with the given bytes."""
    with NatsServer(DEBIAN_NATS_SERVER) as server:
        clients = []

        def answer(body: bytes) -> Mailbox:
            clients.append(Mailbox(server.url))
            process = subprocess.Popen([sys.executable, "-c", ANSWERER, server.url, body.hex()], stdout=subprocess.PIPE)
            processes.append(process)
            assert process.stdout is not None
            process.stdout.readline()
            return clients[-1]

        processes: list[subprocess.Popen[bytes]] = []
        yield answer
        for client in clients:
            client.close()
        for process in processes:
            process.kill()
            process.communicate()


ANSWERER = """
import asyncio, sys, nats
async def main():
    client = await nats.connect(sys.argv[1])
    async def answer(message):
        await message.respond(bytes.fromhex(sys.argv[2]))
    await client.subscribe("$mq9.>", cb=answer)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b"{}", b"null", b"\xff", b"[" * 10_000])
def test_answers_that_no_broker_gives_are_told_as_such(answering: Callable[[bytes], Mailbox], body: bytes) -> None:
    client = answering(body)
    with pytest.raises(Unavailable, match="not an mq9 broker"):
        client.create()
    with pytest.raises(Unavailable, match="not an mq9 broker") as refusal:
        client.send_many("box", ["a", "b"])
    assert refusal.value.sent == [None, None]


@pytest.mark.parametrize("code", [b"404", b'"404"', b"null", b'"x"', b"[]"])
def test_a_refusal_with_an_odd_code_is_still_a_mailbox_error(
    answering: Callable[[bytes], Mailbox], code: bytes
) -> None:
    with pytest.raises(MailboxError, match="because") as refusal:
        answering(b'{"error": "because", "code": ' + code + b"}").create()
    assert refusal.value.code in {0, 404}
