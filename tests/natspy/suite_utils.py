"""What the tests of nats-py take from their `tests/utils.py`, which their source distribution does not carry.

Each class of theirs has servers as its name says, started for each test and killed behind it. The program that is started is what
the environment calls NATSD: a nats-server, or whatever understands its command line.
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import os
import shlex
import shutil
import ssl
import subprocess
import tempfile
import time
import unittest
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_PATIENCE_S = 20.0


def get_config_file(name: str) -> str:
    """The path of a file beside this one."""
    return str(_HERE / name)


class NATSD:
    """A server process; `start` comes back at once, `start_natsd` when it answers."""

    def __init__(
        self,
        port: int = 4222,
        http_port: int = 8222,
        user: str = "",
        password: str = "",
        token: str = "",
        tls: bool = False,
        config_file: str | None = None,
    ) -> None:
        self.port = port
        self.http_port = http_port
        self.proc: subprocess.Popen[bytes] | None = None
        self._options = ["-a", "127.0.0.1", "-p", str(port), "-m", str(http_port)]
        if user:
            self._options += ["--user", user, "--pass", password]
        if token:
            self._options += ["--auth", token]
        if tls:
            self._options += ["--tls", "--tlsverify", "--tlscacert", get_config_file("certs/ca.pem")]
            self._options += ["--tlscert", get_config_file("certs/server-cert.pem")]
            self._options += ["--tlskey", get_config_file("certs/server-key.pem")]
        if config_file is not None:
            self._options += ["--config", config_file]
        # What it keeps outlives the process, not the test.
        self._folder = tempfile.mkdtemp()
        self._log = Path(self._folder) / "log"

    def said(self) -> str:
        """What it has said since it was started last."""
        return self._log.read_text("utf-8", "replace")

    def start(self) -> subprocess.Popen[bytes]:
        command = [*shlex.split(os.environ["NATSD"]), *self._options]
        with self._log.open("wb") as output:
            self.proc = subprocess.Popen(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        return self.proc

    def stop(self) -> None:
        if self.proc is not None and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()

    def end(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def start_natsd(natsd: NATSD) -> None:
    """Start a server and wait until it answers."""
    process = natsd.start()
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", natsd.http_port, timeout=_PATIENCE_S)
        try:
            connection.request("GET", "/varz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server does not answer; it ended with {process.poll()} and said: {natsd.said()}")
        time.sleep(0.01)


class _ServersTestCase(unittest.TestCase):
    """Servers of its own for each test: each item of `servers` is the arguments of a NATSD."""

    servers: tuple[dict[str, Any], ...] = ()

    def setUp(self) -> None:
        super().setUp()
        self.loop = asyncio.new_event_loop()
        self.server_pool = [NATSD(**arguments) for arguments in self.servers]
        for server in self.server_pool:
            self.addCleanup(server.end)
            start_natsd(server)
        self.addCleanup(self.loop.close)


class SingleServerTestCase(_ServersTestCase):
    servers = ({},)


class MultiServerAuthTestCase(_ServersTestCase):
    servers = (
        {"port": 4223, "http_port": 8223, "user": "foo", "password": "bar"},
        {"port": 4224, "http_port": 8224, "user": "hoge", "password": "fuga"},
    )


class MultiServerAuthTokenTestCase(_ServersTestCase):
    servers = (
        {"port": 4223, "http_port": 8223, "token": "token"},
        {"port": 4224, "http_port": 8224, "token": "token"},
        {"port": 4225, "http_port": 8225, "token": "secret"},
    )


class _TlsTestCase(_ServersTestCase):
    """With the context of a client that the servers trust."""

    def setUp(self) -> None:
        super().setUp()
        self.natsd = self.server_pool[0]
        self.ssl_ctx = ssl.create_default_context(cafile=get_config_file("certs/ca.pem"))
        self.ssl_ctx.load_cert_chain(get_config_file("certs/client-cert.pem"), get_config_file("certs/client-key.pem"))


class TLSServerTestCase(_TlsTestCase):
    servers = ({"port": 4224, "tls": True},)


class TLSServerHandshakeFirstTestCase(_TlsTestCase):
    servers = ({"port": 4224, "config_file": get_config_file("conf/tls_handshake_first.conf")},)


class MultiTLSServerAuthTestCase(_TlsTestCase):
    servers = (
        {"port": 4223, "http_port": 8223, "user": "foo", "password": "bar", "tls": True},
        {"port": 4224, "http_port": 8224, "user": "hoge", "password": "fuga", "tls": True},
    )


class NkeysServerTestCase(_ServersTestCase):
    servers = ({"config_file": get_config_file("nkeys/nkeys_server.conf")},)


class NoAuthUserServerTestCase(_ServersTestCase):
    servers = ({"port": 4555, "config_file": get_config_file("conf/no_auth_user.conf")},)


class _NotHereTestCase(_ServersTestCase):
    """For what is skipped before it comes to this: clusters, operator JWT, WebSocket, JetStream."""

    def setUp(self) -> None:
        raise unittest.SkipTest("there is no server for it")


ClusteringTestCase = _NotHereTestCase
ClusteringDiscoveryAuthTestCase = _NotHereTestCase
TrustedServerTestCase = _NotHereTestCase
SingleWebSocketServerTestCase = _NotHereTestCase
SingleWebSocketTLSServerTestCase = _NotHereTestCase
SingleJetStreamServerTestCase = _NotHereTestCase
SingleJetStreamServerLimitsTestCase = _NotHereTestCase


def async_test(test: Callable[..., Coroutine[Any, Any, Any]], timeout: float = 5) -> Callable[..., Any]:
    """Make a test of a coroutine, which has so many seconds."""

    @functools.wraps(test)
    def run(case: Any, *arguments: Any, **more: Any) -> Any:
        asyncio.set_event_loop(case.loop)
        return asyncio.run(asyncio.wait_for(test(case, *arguments, **more), timeout))

    return run


async_long_test = functools.partial(async_test, timeout=10)
