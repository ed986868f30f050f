"""TLS on the port of the clients: the greeting, the handshake, and then a session over what that made (docs/protocol.md §1).

A client is greeted in the clear with an INFO that says so, and hears nothing else outside of TLS. Nothing that it sends before the
handshake is read as NATS: whatever comes is the handshake, or the connection ends.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from mq9.server.config import Config, ConfigError

if TYPE_CHECKING:
    from mq9.server.mail import MailHub, MailSession

log = logging.getLogger("mq9")

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# For how long a client that was hung up on may take to say that it has noticed.
_SHUTDOWN_TIMEOUT_S: Final = 2.0
# For how long one whose handshake has failed may take to hang up, having been told why.
_LINGER_S: Final = 0.5


class _Failure:
    """Why the handshake of a connection has failed, once it has."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.error: ssl.SSLError | None = None

    def note(self, error: ssl.SSLError) -> None:
        """It has failed; end the connection when the client has had time to read what it is told."""
        self.error = error
        loop = asyncio.get_running_loop()
        loop.call_soon(self._half_close)
        loop.call_later(_LINGER_S, self._transport.abort)

    def _half_close(self) -> None:
        try:
            self._transport.write_eof()
        except (OSError, RuntimeError):  # it has hung up already
            self._transport.abort()


# Of the connection whose handshake begins in this context.
_failure: ContextVar[_Failure] = ContextVar("_failure")


class _Handshake(ssl.SSLObject):
    """The broker's side of a handshake, which tells the client when it fails.

    OpenSSL puts the alert that does so where the loop takes from what it sends; but the loop hangs up on an error without sending
    that. So an error is kept from it: for the loop the client has not finished, and whatever else it says goes unread.
    """

    def begin(self, incoming: ssl.MemoryBIO, failure: _Failure) -> None:
        """What has come from the client is in `incoming`; `failure` is told of an error."""
        self._incoming = incoming
        self._failure = failure

    def do_handshake(self) -> None:
        """As ssl.SSLObject does, but for errors that are more than a lack of bytes."""
        if self._failure.error is None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                self._failure.note(error)
            else:
                del self._incoming, self._failure
                return
        self._incoming.read()
        raise ssl.SSLWantReadError


class _Context(ssl.SSLContext):
    sslobject_class = _Handshake

    def wrap_bio(self, incoming: ssl.MemoryBIO, *arguments: Any, **more: Any) -> ssl.SSLObject:
        """As ssl.SSLContext does."""
        handshake = super().wrap_bio(incoming, *arguments, **more)
        cast("_Handshake", handshake).begin(incoming, _failure.get())
        return handshake


def context_of(config: Config) -> ssl.SSLContext | None:
    """What the handshake needs, from the files that `config` names; None when it names none.

    Raises ConfigError, with the key, for what cannot be used.
    """
    if not config.tls_cert:
        others = ("tls_key", "tls_ca", "tls_verify", "tls_verify_and_map", "tls_handshake_first")
        if left := [key for key in others if getattr(config, key)]:
            raise ConfigError(f"{left[0]} needs tls_cert")
        return None
    if config.tls_min_version not in _VERSIONS:
        raise ConfigError(f"tls_min_version must be one of {', '.join(_VERSIONS)}, not {config.tls_min_version!r}")
    verifies = config.tls_verify or config.tls_verify_and_map
    if verifies and not config.tls_ca:
        raise ConfigError("tls_verify needs tls_ca: by whom the certificates of clients are signed")
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.tls_min_version]
    # A client that asks for another handshake within a connection asks for work only.
    context.options |= ssl.OP_NO_RENEGOTIATION
    _load(context, config)
    context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
    return context


def _load(context: ssl.SSLContext, config: Config) -> None:
    for key in ("tls_cert", "tls_key", "tls_ca"):
        path = getattr(config, key)
        try:
            Path(path or config.tls_cert).read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {key} {path}: {error.strerror}") from None
    try:
        # Without this, OpenSSL asks for the passphrase of an encrypted key on the terminal.
        context.load_cert_chain(config.tls_cert, config.tls_key or None, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"tls_cert {config.tls_cert} and tls_key {config.tls_key or config.tls_cert} are no certificate with its key"
            f" (PEM, not encrypted): {_reason(error)}"
        ) from None
    if config.tls_ca:
        try:
            context.load_verify_locations(config.tls_ca)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(f"tls_ca {config.tls_ca} has no certificates (PEM): {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error) or type(error).__name__


class Tls:
    """The handshakes of one broker.

    Arguments:
        hub: the broker's.
        new_session: makes the session of a connection.
        context: see `context_of`.
        config: what it is of.
    """

    def __init__(
        self, hub: MailHub, new_session: Callable[[], MailSession], context: ssl.SSLContext, config: Config
    ) -> None:
        self._hub = hub
        self._new_session = new_session
        self._greetings: set[asyncio.Task[None]] = set()
        self.adopt(context, config)

    def adopt(self, context: ssl.SSLContext, config: Config) -> None:
        """Use these certificates and this timeout from now on."""
        self._context = context
        self._timeout_s = config.tls_timeout
        self._handshake_first = config.tls_handshake_first

    def new_protocol(self) -> asyncio.Protocol:
        """What a new connection speaks to before it has a session."""
        return _Greeter(self)

    async def stop(self) -> None:
        """Give up the handshakes that are under way."""
        for task in self._greetings:
            task.cancel()
        await asyncio.gather(*self._greetings, return_exceptions=True)

    def greet(self, greeter: _Greeter, transport: asyncio.Transport) -> None:
        """Begin with a new connection."""
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        full = len(self._hub.sessions) + len(self._greetings) >= self._hub.connections_max
        if full or not self._hub.addresses.enter(address, self._hub.address_connections_max):
            session = self._new_session()
            transport.write(session.introduce(transport) + b"-ERR 'maximum connections exceeded'\r\n")
            self._hub.count_refusal("maximum connections" if full else "maximum connections of an address")
            transport.close()
            return
        failure = _Failure(transport)
        # Here, and not in the task: the handshake begins in the context in which the connection was made.
        _failure.set(failure)
        task = asyncio.get_running_loop().create_task(self._let_in(greeter, transport, failure, address))
        self._greetings.add(task)
        task.add_done_callback(self._greetings.discard)

    async def _let_in(self, greeter: _Greeter, transport: asyncio.Transport, failure: _Failure, address: str) -> None:
        session = self._new_session()
        try:
            secured = await self._shake_hands(greeter, transport, failure, session)
        finally:
            self._hub.addresses.leave(address)
        # No await since the handshake: what the client has said behind it comes to the session after this.
        if secured is not None and not secured.is_closing():
            session.carrier = transport
            session.connection_made(secured)

    async def _shake_hands(
        self, greeter: _Greeter, transport: asyncio.Transport, failure: _Failure, session: MailSession
    ) -> asyncio.Transport | None:
        """Returns what the session speaks through from now on, or None when there is no TLS."""
        loop = asyncio.get_running_loop()
        if not self._handshake_first:
            transport.write(session.introduce(transport))
        address = transport.get_extra_info("peername")
        try:
            # By the time that this is called, start_tls has put its own protocol in the place of the greeter, and reads nothing yet.
            loop.call_soon(_pass_on, greeter, transport)
            return await loop.start_tls(
                transport,
                cast("asyncio.BaseProtocol", session),
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._timeout_s,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
            )
        except (OSError, EOFError, RuntimeError) as error:  # RuntimeError: it was closed before
            self._hub.count_refusal("tls handshake")
            log.info(
                "%s: no TLS: %s",
                address[0] if isinstance(address, tuple) else "a client",
                _reason(failure.error or error),
            )
            return None
        except asyncio.CancelledError:
            transport.abort()
            raise


class _Greeter(asyncio.Protocol):
    """A connection without a session yet. The loop may read once before the handshake begins: `early` is for that."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self.early = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has come."""
        self._tls.greet(self, cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """Something has come already."""
        self.early += data


def _pass_on(greeter: _Greeter, transport: asyncio.Transport) -> None:
    """Give what was read before the handshake to who does that: an asyncio.BufferedProtocol, which reads it as TLS like the rest."""
    protocol: Any = transport.get_protocol()
    early = bytes(greeter.early)
    while early and protocol is not greeter:
        room = memoryview(protocol.get_buffer(len(early)))
        size = min(len(room), len(early))
        room[:size] = early[:size]
        protocol.buffer_updated(size)
        early = early[size:]
