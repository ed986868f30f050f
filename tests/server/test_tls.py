"""TLS: upgraded after INFO or from the first byte, with certificates of clients or without, and nothing in the clear."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mq9.server.config import Config, ConfigError
from mq9.server.embedded import Broker
from mq9.server.userconfig import UserConfig
from tests.server.support import body_of, create, publish, request, until
from tests.support.broker import BrokerProcess
from tests.support.certificates import Certificates
from tests.support.rawclient import RawClient
from tests.support.secrets import hashed, password

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The server's and clients' certificates."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@contextmanager
def broker_of(certificates: Certificates, data_dir: Path | None = None, **config: Any) -> Iterator[int]:
    """The port of a broker with TLS."""
    with Broker(data_dir, config=Config(**(certificates.configuration() | config))) as broker:
        assert broker.url.startswith("tls://")
        yield int(broker.url.rpartition(":")[2])


@contextmanager
def secured(port: int, context: ssl.SSLContext, **options: object) -> Iterator[RawClient]:
    """A client that has been greeted, has shaken hands and has said CONNECT."""
    with RawClient(port) as client:
        assert client.opened()["tls_required"] is True
        yield client.secure(context).connect(**options)


def test_a_client_is_greeted_and_upgraded(certificates: Certificates) -> None:
    with broker_of(certificates) as port, secured(port, certificates.context()) as client:
        client.send(b"SUB a 1\r\n" + publish("a", b"hi"))
        assert client.frame() == b"MSG a 1 2\r\nhi"
        name = create(client)
        assert "msg_id" in request(client, f"$mq9.AI.MAILBOX.MSG.{name}", b"stored")
        assert client._socket.version() == "TLSv1.3"  # type: ignore[attr-defined]


def test_handshake_first(certificates: Certificates) -> None:
    with broker_of(certificates, tls_handshake_first=True) as port:
        context = certificates.context()
        for _ in range(50):  # now and then the handshake is there before the broker has turned to it
            with RawClient(port) as client:
                client.secure(context)
                assert client.opened()["tls_required"] is True
                client.connect().fence()
        with RawClient(port) as client:
            client._socket.settimeout(0.2)
            with pytest.raises(AssertionError, match="nothing came"):
                client.opened()


def test_what_is_said_right_behind_the_handshake_is_heard(certificates: Certificates) -> None:
    with broker_of(certificates, user="anna", password=hashed("anna")) as port:
        for _ in range(50):
            with RawClient(port) as client:
                client.opened()
                client.secure(certificates.context())
                # In the same record as the end of the client's handshake would be, or right behind it.
                client.send(
                    b'CONNECT {"user":"anna","pass":"anna","verbose":false}\r\nSUB a 1\r\n' + publish("a", b"x")
                )
                assert client.frame() == b"MSG a 1 1\r\nx"


@pytest.mark.parametrize(
    "said",
    [
        b"CONNECT {}\r\nPUB a 1\r\nx\r\n",
        b"PING\r\n",
        b"\x16\x03\x01\x00\x05hello" + b"PUB a 1\r\nx\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_nothing_that_is_said_in_the_clear_is_done(certificates: Certificates, said: bytes) -> None:
    with broker_of(certificates) as port, secured(port, certificates.context()) as listener:
        listener.send(b"SUB > 1\r\n")
        listener.fence()
        with RawClient(port) as client:
            client.opened()
            client.send(said)
            client.bytes_until_hung_up()
            answer = bytes(client._unread)
            # What at least looks like TLS is answered in TLS, by an alert.
            assert answer == b"" or (said[0] == answer[0] + 1 == 0x16 and len(answer) == 7), answer
        assert listener.fence() == []


def test_what_was_said_in_the_clear_is_not_taken_for_said_in_confidence(certificates: Certificates) -> None:
    """A man in the middle puts his words before the client's handshake; they must not be heard once that has succeeded."""
    with broker_of(certificates) as port, secured(port, certificates.context()) as listener:
        listener.send(b"SUB > 1\r\n")
        listener.fence()
        with RawClient(port) as client:
            client.opened()
            client.send(b"PUB injected 1\r\nx\r\n")
            with pytest.raises(OSError):  # noqa: PT011 - the handshake fails in one way or another
                client.secure(certificates.context())
        assert listener.fence() == []


def test_who_does_not_shake_hands_in_time_is_hung_up_on(certificates: Certificates) -> None:
    with broker_of(certificates, tls_timeout=0.1) as port:
        for said in (b"", b"\x16\x03\x01"):
            with RawClient(port) as client:
                client.opened()
                client.send(said)
                assert client.bytes_until_hung_up() == 0
        with secured(port, certificates.context()) as client:
            client.fence()


def test_the_time_to_say_who_one_is_begins_after_the_handshake(certificates: Certificates) -> None:
    with broker_of(certificates, token="t", auth_timeout=0.1) as port, RawClient(port) as client:
        client.opened()
        client.secure(certificates.context())
        assert client.rest() == [b"-ERR 'Authentication Timeout'"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_versions(certificates: Certificates) -> None:
    def version(port: int, highest: ssl.TLSVersion) -> str | None:
        context = certificates.context()
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = highest
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        try:
            with secured(port, context) as client:
                return str(client._socket.version())  # type: ignore[attr-defined]
        except OSError:
            return None

    with broker_of(certificates) as port:
        assert version(port, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        assert version(port, ssl.TLSVersion.TLSv1_1) is None
    with broker_of(certificates, tls_min_version="1.3") as port:
        assert version(port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        assert version(port, ssl.TLSVersion.TLSv1_2) is None


def test_certificates_of_clients(certificates: Certificates, tmp_path: Path) -> None:
    config = certificates.configuration(of_clients=True)
    mine = certificates.issue("client", "client.example")
    strangers = Certificates.make(tmp_path)
    theirs = certificates.context(strangers.issue("client", "client.example"))
    with broker_of(certificates, **config, tls_verify=True) as port:
        with secured(port, certificates.context(mine)) as client:
            assert client.infos[0]["tls_verify"] is True
            client.fence()
        for context in (certificates.context(), theirs):
            # With TLS 1.3 a client learns only after its own handshake that it is not wanted.
            with pytest.raises((OSError, AssertionError)), secured(port, context) as client:
                client.fence()
    # Not required: whatever a client shows is not looked at.
    with broker_of(certificates, **config) as port:
        for context in (certificates.context(), certificates.context(mine)):
            with secured(port, context) as client:
                client.fence()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_is_refused_is_told_so(
    certificates: Certificates, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    def go_on(client: RawClient, context: ssl.SSLContext) -> None:
        # With TLS 1.3 the client is through before the broker has seen what it shows: it goes on, and then hears of it.
        client.secure(context).send(b'CONNECT {"verbose":false}\r\nPING\r\n')
        client.bytes_until_hung_up()

    def refused(port: int, context: ssl.SSLContext) -> str:
        context.maximum_version = version
        with RawClient(port) as client:
            client.opened()
            with pytest.raises(ssl.SSLError) as caught:
                go_on(client, context)
        return str(caught.value)

    strangers = Certificates.make(tmp_path)
    config = certificates.configuration(of_clients=True)
    with broker_of(certificates, **config, tls_verify=True) as port:
        for _ in range(20):
            said = refused(port, certificates.context())
            assert ("certificate required" if version is ssl.TLSVersion.TLSv1_3 else "handshake failure") in said
            assert "unknown ca" in refused(port, certificates.context(strangers.issue("client", "client.example")))
    with broker_of(certificates, tls_min_version="1.3") as port:
        if version is ssl.TLSVersion.TLSv1_2:
            assert "protocol version" in refused(port, certificates.context())


def test_a_certificate_says_who_a_client_is(certificates: Certificates) -> None:
    users = (UserConfig("anna@agents.example"), UserConfig("CN=ben,OU=Tests,O=Agents"), UserConfig("carl.example"))
    config = certificates.configuration(of_clients=True) | {"tls_verify_and_map": True, "users": users}
    with broker_of(certificates, **config) as port:
        owners = {}
        for name, identity in (("anna", "anna@agents.example"), ("ben", "ben.example"), ("carl", "carl.example")):
            context = certificates.context(certificates.issue(name, identity))
            with secured(port, context, **password("nobody")) as client:
                owners[name] = create(client, name=f"box.{name}", owner_only=True)
                for other in owners.values():
                    answer = request(client, f"$mq9.AI.MAILBOX.LIST.{other}")
                    assert ("error" in answer) == (other != owners[name])
        stranger = certificates.context(certificates.issue("dora", "dora.example"))
        with RawClient(port) as client:
            client.opened()
            client.secure(stranger).send(b'CONNECT {"user":"carl.example","pass":""}\r\n')
            assert client.rest() == [b"-ERR 'Authorization Violation'"]


def test_large_messages_both_ways(certificates: Certificates, tmp_path: Path) -> None:
    with broker_of(certificates, tmp_path) as port, secured(port, certificates.context()) as sender:
        box = create(sender)
        payloads = [bytes([number]) * MIB for number in range(8)]
        for payload in payloads:
            assert "msg_id" in request(sender, f"$mq9.AI.MAILBOX.MSG.{box}", payload)
        with secured(port, certificates.context()) as receiver:
            receiver.send(f"SUB $mq9.AI.MAILBOX.MSG.{box} 1\r\n".encode())
            assert [body_of(receiver.frame() or b"") for _ in payloads] == payloads


def test_a_receiver_that_does_not_read_is_paused_and_loses_nothing(certificates: Certificates, tmp_path: Path) -> None:
    with (
        broker_of(certificates, tmp_path, max_pending=2 * MIB) as port,
        secured(port, certificates.context()) as sender,
        secured(port, certificates.context()) as receiver,
    ):
        box = create(sender)
        receiver.send(f"SUB $mq9.AI.MAILBOX.MSG.{box} 1\r\n".encode())
        receiver.fence()
        for number in range(64):
            assert "msg_id" in request(sender, f"$mq9.AI.MAILBOX.MSG.{box}", b"%d" % number + bytes(MIB // 2))
        for number in range(64):
            assert body_of(receiver.frame() or b"").rstrip(b"\0") == b"%d" % number


def test_a_core_subscriber_that_does_not_read_is_cut_off(certificates: Certificates) -> None:
    with (
        broker_of(certificates, max_pending=MIB) as port,
        secured(port, certificates.context()) as sender,
        secured(port, certificates.context()) as receiver,
    ):
        receiver.send(b"SUB a 1\r\n")
        receiver.fence()
        for _ in range(64):
            sender.send(publish("a", bytes(MIB // 2)))
        sender.fence()
        with suppress(OSError):
            assert receiver.bytes_until_hung_up() < 32 * MIB


def test_what_the_socket_of_a_member_did_not_take_goes_to_another(certificates: Certificates, tmp_path: Path) -> None:
    with broker_of(certificates, tmp_path) as port, secured(port, certificates.context()) as sender:
        box = create(sender)
        member = f"SUB $mq9.AI.MAILBOX.MSG.{box} workers 1\r\n".encode()
        with RawClient(port) as first:
            first.opened()
            first._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            first.secure(certificates.context()).connect().send(member)
            first.fence()
            for number in range(40):
                request(sender, f"$mq9.AI.MAILBOX.MSG.{box}", b"%d:" % number + bytes(MIB // 4))
            read = body_of(first.frame() or b"")
            assert read.startswith(b"0:")
            first.reset()
        with secured(port, certificates.context()) as second:
            second.send(member)
            got = {int(body_of(second.frame() or b"").partition(b":")[0])}
            # What the first one's socket had taken is done; all that it had not, and all behind it, comes here.
            got |= {int(body_of(second.frame() or b"").partition(b":")[0]) for _ in range(40 - min(got) - 1)}
            assert got == set(range(min(got), 40))
            assert 0 < min(got) < 40
            assert second.fence() == []


def numbers(data: bytes) -> set[int]:
    """The numbers in front of the messages of 1,000 bytes that came whole."""
    return {int(found) for found in re.findall(rb"\r\n\r\n(\d+):\0{1000}\r\n", data)}


def stop_at_once(pid: int) -> None:
    """Stop a process; when this returns it does nothing anymore."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "T", "stopped")


def unsent_bytes(port: int, peer_port: int) -> int:
    """What the system still has to send from one port of this machine to another."""
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if (int(local.partition(":")[2], 16), int(remote.partition(":")[2], 16)) == (port, peer_port):
            return int(queues.partition(":")[0], 16)
    raise AssertionError("there is no such connection")


def test_nothing_of_a_group_is_lost_between_tls_and_the_socket(certificates: Certificates, tmp_path: Path) -> None:
    """The broker is stopped in the middle of writing, the member reads all that has left it, and goes: another gets all the rest.

    What has left it ends within a record of TLS as a rule, of which nothing can be read: the messages in that are part of the rest.
    """
    count = 8_000
    config = tmp_path / "mq9.toml"
    config.write_text("".join(f'{key} = "{value}"\n' for key, value in certificates.configuration().items()))
    with BrokerProcess(tmp_path / "data", arguments=["--config", str(config)]) as process:
        port = int(process.url.rpartition(":")[2])
        with secured(port, certificates.context()) as sender:
            box = create(sender)
            for number in range(count):
                sender.send(publish(f"$mq9.AI.MAILBOX.MSG.{box}", b"%d:" % number + bytes(1_000)))
            sender.fence()
            member = f"SUB $mq9.AI.MAILBOX.MSG.{box} workers 1\r\n".encode()
            with secured(port, certificates.context()) as first:
                first.send(member)
                own_port = first._socket.getsockname()[1]
                until(lambda: unsent_bytes(port, own_port) > 100_000, "the member's socket is full")
                stop_at_once(process.pid)
                data, is_read = b"", False
                first._socket.settimeout(0.1)
                while not is_read:
                    is_read = unsent_bytes(port, own_port) == 0
                    with suppress(TimeoutError):
                        while more := first._socket.recv(1 << 20):
                            data += more
                first.reset()
                os.kill(process.pid, signal.SIGCONT)
            read = numbers(data)
            assert 0 < len(read) < count
            with secured(port, certificates.context()) as second:
                second.send(member)
                missing = set(range(count)) - read
                while missing:
                    missing -= numbers((second.frame() or b"") + b"\r\n")


def test_many_connect_and_leave_at_once(certificates: Certificates) -> None:
    with broker_of(certificates, max_connections=20) as port:
        failures: list[BaseException] = []

        def come_and_go(number: int) -> None:
            try:
                for turn in range(5):
                    with RawClient(port) as client:
                        client.opened()
                        if (number + turn) % 3 == 0:
                            continue  # hangs up on the handshake
                        client.secure(certificates.context()).connect().fence()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


def test_handshakes_count_as_connections(certificates: Certificates) -> None:
    with broker_of(certificates, max_connections=3, tls_timeout=5) as port:
        idle = [RawClient(port) for _ in range(3)]
        for client in idle:
            client.opened()
        with RawClient(port) as late:
            late.opened()
            assert late.rest() == [b"-ERR 'maximum connections exceeded'"]
        for client in idle:
            client.hang_up()


def test_stopping_gives_up_handshakes(certificates: Certificates) -> None:
    with broker_of(certificates, tls_timeout=60) as port:
        client = RawClient(port)
        client.opened()
    with suppress(ConnectionResetError):
        assert client.bytes_until_hung_up() == 0
    client.hang_up()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"tls_key": "KEY"}, "tls_key needs tls_cert"),
        ({"tls_verify": True}, "tls_verify needs tls_cert"),
        ({"tls_handshake_first": True}, "tls_handshake_first needs tls_cert"),
        ({"tls_cert": "CERT", "tls_key": "KEY", "tls_verify": True}, "tls_verify needs tls_ca"),
        ({"tls_cert": "CERT", "tls_key": "KEY", "tls_verify_and_map": True}, "tls_verify needs tls_ca"),
        ({"tls_cert": "missing.pem"}, r"cannot read tls_cert missing\.pem: No such file"),
        ({"tls_cert": "CERT", "tls_key": "missing.pem"}, r"cannot read tls_key missing\.pem: No such file"),
        ({"tls_cert": "CERT", "tls_key": "KEY", "tls_ca": "missing.pem"}, r"cannot read tls_ca missing\.pem"),
        ({"tls_cert": "CERT"}, "are no certificate with its key"),
        ({"tls_cert": "KEY", "tls_key": "CERT"}, "are no certificate with its key"),
        ({"tls_cert": "CERT", "tls_key": "KEY", "tls_ca": "KEY"}, "tls_ca .* has no certificates"),
        ({"tls_cert": "CERT", "tls_key": "KEY", "tls_min_version": "1.1"}, "tls_min_version must be one of 1.2, 1.3"),
    ],
)
def test_what_cannot_be_used_is_named(certificates: Certificates, config: dict[str, Any], named: str) -> None:
    files = {"CERT": str(certificates.cert), "KEY": str(certificates.key)}
    with pytest.raises(ConfigError, match=named):
        Broker(config=Config(**{key: files.get(value, value) for key, value in config.items()})).start()
