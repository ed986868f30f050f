"""One connection to a broker, over nats-py: opened once, lost at most once, never reopened.

The only module that knows nats-py. It turns its callbacks and exceptions into three things that the rest of the SDK can rely
on: a request ends with its answer or with `LinkLost`, a subscription that the broker refuses is known as soon as `attach`
returns, and `lost` is set the moment the connection is gone. `connection.py` opens the next link.
"""
# ruff: noqa: N818 - the exceptions here are events of a connection, and never reach a user

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
import ssl
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.errors import AuthorizationError, Error, NoServersError

from mq9.sdk.credentials import Credentials, without_secrets
from mq9.sdk.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    Handler = Callable[[str, Mapping[str, str], bytes], None]
    # Subject, body and headers.
    Request = tuple[str, bytes, dict[str, str]]

logger = logging.getLogger("mq9")

PING_INTERVAL_S: Final = 20
CLOSING_S: Final = 0.2
# Requests of one pipeline that may be without an answer.
PIPELINED_MAX: Final = 512
# Requests of one pipeline that are published in a row; then the loop has a turn, without which none of them leaves.
TURN: Final = 128
_REFUSED = re.compile(r'permissions violation for (subscription|publish) to "([^"\s]+)"')
_SCHEMES: Final = {"nats", "tls", "ws", "wss"}
_NO_RESPONDERS: Final = "503"


class LinkFailed(Exception):
    """No link could be opened; says why, as the end of a sentence. `hopeless`: trying again will not help."""

    def __init__(self, reason: str, *, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.hopeless = hopeless


class LinkLost(Exception):
    """The link broke before the answer came."""


class NoBroker(Exception):
    """Something speaks NATS there, but nobody answers for mailboxes."""


class SubscriptionRefused(Exception):
    """The broker does not let this client subscribe to that."""


class InboxRefused(Exception):
    """The server does not let this client subscribe to where its answers are to come in."""


class Reply(NamedTuple):
    """The answer to a request, as it came."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def is_from_nobody(self) -> bool:
        """Whether the server says that nobody answers on the subject."""
        return not self.body and self.headers.get("Status") == _NO_RESPONDERS


def checked_url(url: str) -> str:
    """`url` itself when it can be the address of a broker; raises BadRequest for anything else."""
    problem = BadRequest(
        f"{without_secrets(url)!r} is not the address of a broker; one looks like nats://localhost:4222"
    )
    if not isinstance(url, str) or not url or any(character.isspace() for character in url):
        raise problem
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        reachable = parts.scheme in _SCHEMES and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        raise problem from None
    if not reachable:
        raise problem
    return url


def address_of(url: str) -> str:
    """Host and port of a broker's URL, without the credentials that may be in it."""
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    return f"{parts.hostname}:{parts.port or 4222}"


class _NoTlsError(Error):
    """TLS is wanted, and the server has none."""


def _is_no_false_alarm(record: logging.LogRecord) -> bool:
    """Whether a warning of asyncio's is worth a user's attention.

    This one is about how nats-py puts a stream over TLS, comes with the end of each connection, and means nothing.
    """
    return record.msg != "returning true from eof_received() has no effect when using ssl"


class _Client(Client):
    """nats-py's client, which says who it is over TLS only when it is to.

    nats-py itself goes by what the server says: a server, or somebody in between, that offers no TLS would be told the password.
    """

    def __init__(self, *, needs_tls: bool) -> None:
        super().__init__()
        self._needs_tls = needs_tls
        self._was_asked = False

    def _connect_command(self) -> bytes:
        self._was_asked = True
        has_tls = self._server_info.get("tls_required") or self.options["tls_handshake_first"]
        if self._needs_tls and not has_tls:
            raise _NoTlsError
        if has_tls:
            logging.getLogger("asyncio").addFilter(_is_no_false_alarm)
        return super()._connect_command()

    def check(self) -> None:
        """Raise Error when a later nats-py has said who this client is without asking above."""
        if self._needs_tls and not self._was_asked:
            raise _NoTlsError


class Attachment:
    """Subscriptions that belong together, alive as long as their link or until `detach`."""

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self._subscriptions = subscriptions

    async def detach(self) -> None:
        """Tell the broker that nobody listens any more; harmless on a link that is gone."""
        for subscription in self._subscriptions:
            with suppress(Error, OSError):
                await subscription.unsubscribe()
        self._subscriptions = []


class Inbox:
    """Where the answers to requests come in: one subscription of its link. Use `Link.open_inbox`.

    nats-py's own `flush` and `drain` are no use here: their PING overtakes what was sent before.

    Attributes:
        link: what it belongs to.
        is_refused: whether the server does not let the client have it.
    """

    def __init__(self, link: Link, client: Client) -> None:
        self.link = link
        self._client = client
        self._prefix = ""
        self._subscription: Subscription | None = None
        self._requests_made = 0
        self._answers: dict[str, asyncio.Future[Reply | None]] = {}
        self._received = 0
        self.is_refused = False
        self._has_news = asyncio.Event()

    async def open(self) -> None:
        """Subscribe; raises what nats-py raises."""
        self._prefix = self._client.new_inbox()
        self._subscription = await self._client.subscribe(f"{self._prefix}.*", cb=self._on_answer)

    async def request(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> Reply:
        """Send one request and wait for its answer, for as long as the link and this inbox last.

        Raises:
            LinkLost: the connection broke, or the inbox was withdrawn; whether the request arrived is not known.
            NoBroker: the server has nobody who answers on this subject.
            InboxRefused: the answer could not come in.
        """
        reply = await self._answer_to(lambda to: self._client.publish(subject, body, reply=to, headers=headers))
        if reply.is_from_nobody:
            raise NoBroker
        return reply

    async def round_trip(self) -> None:
        """Wait until the server has taken in what was sent before, and what it said to that has come in; raises LinkLost."""
        await self._answer_to(lambda to: self._client.publish(to, b""))

    async def withdraw(self, timeout_s: float) -> None:
        """Tell the broker that the answer to a request is not wanted any more, unless it is on its way: then let it come in.

        Only for an inbox that has one request at a time; it is of no use afterwards.

        Arguments:
            timeout_s: how long to wait for what is on its way, in seconds.
        """
        if self._subscription is not None and not self.link.lost.is_set():
            with suppress(Error, OSError, LinkLost, TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.link.until_lost(self._receive_one_more(self._subscription))
        self.fail()

    async def _receive_one_more(self, subscription: Subscription) -> None:
        # The subscription ends with the message that comes next: either the answer, or this one to itself.
        last = self._received + 1
        await subscription.unsubscribe(limit=last)
        await self._client.publish(f"{self._prefix}.end", b"")
        while self._received < last:
            self._has_news.clear()
            await self._has_news.wait()

    def fail(self) -> None:
        """Let every request that has no answer end with LinkLost."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)

    async def _answer_to(self, publish: Callable[[str], Awaitable[None]]) -> Reply:
        self._requests_made += 1
        token = str(self._requests_made)
        answer = self._answers[token] = asyncio.get_running_loop().create_future()
        try:
            if self.is_refused:
                raise InboxRefused
            if self.link.lost.is_set():
                raise LinkLost
            await publish(f"{self._prefix}.{token}")
            reply: Reply | None = await answer
        except (Error, OSError):
            raise LinkLost from None
        finally:
            del self._answers[token]
        if self.is_refused:
            raise InboxRefused
        if reply is None:
            raise LinkLost
        return reply

    def on_refusal(self, operation: str, subject: str) -> None:
        """The server does not let this client publish or subscribe (`operation`) to `subject`, in lower case.

        That is an answer as well to what is published to the inbox itself, just to see it come back.
        """
        prefix = self._prefix.lower() + "."
        if not subject.startswith(prefix):
            return
        if operation == "subscription":
            self.is_refused = True
            self.fail()
            return
        self._received += 1
        self._has_news.set()
        answer = self._answers.get(subject[len(prefix) :])
        if answer is not None and not answer.done():
            answer.set_result(Reply({}, b""))

    async def _on_answer(self, message: Msg) -> None:
        self._received += 1
        self._has_news.set()
        answer = self._answers.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(Reply(message.headers or {}, message.data))


class Pipeline:
    """Requests that are sent one behind the other, without waiting for each answer, over a subscription of their own.

    Arguments:
        link: what it belongs to.
        client: its connection.
        requests: subject, body and headers of each.
    """

    def __init__(self, link: Link, client: Client, requests: Sequence[Request]) -> None:
        self._link = link
        self._client = client
        self._requests = requests
        self._prefix = client.new_inbox()
        self._is_refused = False
        self._replies: list[Reply | None] = [None] * len(requests)
        self._answered = 0
        self._has_news = asyncio.Event()

    async def run(self, timeout_s: float) -> list[Reply | None]:
        """Send them all; for each its answer, or None when the link broke or `timeout_s` seconds passed before the next one came.

        Raises NoBroker, InboxRefused.
        """
        with suppress(Error, OSError, LinkLost, TimeoutError):
            subscription = await self._client.subscribe(
                f"{self._prefix}.*", cb=self._on_answer, pending_msgs_limit=0, pending_bytes_limit=0
            )
            try:
                for number, (subject, body, headers) in enumerate(self._requests):
                    if number % TURN == 0:
                        await asyncio.sleep(0)
                        await self._until_answered(number + TURN - PIPELINED_MAX, timeout_s)
                    await self._client.publish(subject, body, reply=f"{self._prefix}.{number}", headers=headers)
                await self._until_answered(len(self._requests), timeout_s)
            finally:
                with suppress(Error, OSError):
                    await subscription.unsubscribe()
        if any(reply and reply.is_from_nobody for reply in self._replies):
            raise NoBroker
        return self._replies

    def fail(self) -> None:
        """The link is lost."""
        self._has_news.set()

    def on_refusal(self, operation: str, subject: str) -> None:
        """As for an Inbox."""
        if operation == "subscription" and subject.startswith(self._prefix.lower() + "."):
            self._is_refused = True
            self._has_news.set()

    async def _until_answered(self, count: int, timeout_s: float) -> None:
        while self._answered < count:
            if self._is_refused:
                raise InboxRefused
            if self._link.lost.is_set():
                raise LinkLost
            self._has_news.clear()
            async with asyncio.timeout(timeout_s):
                await self._has_news.wait()

    async def _on_answer(self, message: Msg) -> None:
        number = int(message.subject.rpartition(".")[2])
        if self._replies[number] is None:
            self._replies[number] = Reply(message.headers or {}, message.data)
            self._answered += 1
            self._has_news.set()


class Link:
    """See the module. Use `open`."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self.lost = asyncio.Event()
        self.speaks_mq9 = False  # set by whoever got an answer that only an mq9 broker gives
        self._last_error: Exception | None = None
        self._inbox = Inbox(self, client)
        self._inboxes: weakref.WeakSet[Inbox | Pipeline] = weakref.WeakSet([self._inbox])
        self._refusals: dict[str, set[asyncio.Event]] = {}
        self._keeper: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, credentials: Credentials, timeout_s: float) -> Link:
        """Connect to the broker at `url` within `timeout_s` seconds.

        Raises:
            LinkFailed: nothing usable answers there.
        """
        client = _Client(needs_tls=credentials.needs_tls)
        link = cls(client)
        try:
            async with asyncio.timeout(timeout_s):
                await client.connect(
                    servers=[url],
                    name="mq9-python",
                    error_cb=link._on_error,
                    disconnected_cb=link._on_disconnected,
                    # A link does not come back: `_on_disconnected` holds nats-py's own reconnecting before it starts.
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=timeout_s,  # type: ignore[arg-type]  # annotated int, used as any number of seconds
                    ping_interval=PING_INTERVAL_S,
                    **credentials.nats_options(),
                )
                client.check()
                await link._inbox.open()
        except (OSError, TimeoutError, ValueError, Error) as error:
            await link._give_up()
            raise link._failure(error) from None
        except asyncio.CancelledError:
            await link._give_up()
            raise
        link._keeper = asyncio.create_task(link._keep(), name="mq9 link")
        return link

    @property
    def message_bytes_max(self) -> int:
        """The most bytes that the broker takes as headers and payload of one message."""
        return self._client.max_payload

    async def close(self) -> None:
        """Give the connection up, after what was written has left; every request still open gets LinkLost."""
        self.lost.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])

    async def request(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> Reply:
        """Send one request and wait for its answer, for as long as the link lasts.

        Raises:
            LinkLost: the connection broke; whether the request arrived is not known.
            NoBroker: the server has nobody who answers on this subject.
        """
        return await self._inbox.request(subject, body, headers)

    async def request_all(self, requests: Sequence[Request], timeout_s: float) -> list[Reply | None]:
        """Send requests one behind the other; see `Pipeline.run`."""
        pipeline = Pipeline(self, self._client, requests)
        self._inboxes.add(pipeline)
        return await pipeline.run(timeout_s)

    async def open_inbox(self) -> Inbox:
        """An inbox for requests that may be taken back; raises LinkLost when the connection broke."""
        inbox = Inbox(self, self._client)
        try:
            if self.lost.is_set():
                raise LinkLost
            await inbox.open()
        except (Error, OSError):
            raise LinkLost from None
        self._inboxes.add(inbox)
        return inbox

    async def attach(self, handlers: Mapping[str, Handler]) -> Attachment:
        """Subscribe to several subjects, in the order given, and wait until the broker has taken them in.

        Arguments:
            handlers: for each subject, what is called with subject, headers and payload of each message.

        Raises:
            SubscriptionRefused: the broker does not want one of them; then there is none.
            LinkLost: the connection broke.
        """
        refused = asyncio.Event()
        # nats-py lowers the case of an error before it tells of it.
        watched = [self._refusals.setdefault(subject.lower(), set()) for subject in handlers]
        for waiting in watched:
            waiting.add(refused)
        attachment = Attachment([])
        try:
            attachment = Attachment([await self._subscribe(subject, handler) for subject, handler in handlers.items()])
            # This comes back after every refusal.
            await self._inbox.round_trip()
            if refused.is_set():
                raise SubscriptionRefused
        except (Error, OSError):
            raise LinkLost from None
        except BaseException:
            await attachment.detach()
            raise
        finally:
            for subject, waiting in zip(handlers, watched, strict=True):
                waiting.discard(refused)
                if not waiting:
                    self._refusals.pop(subject.lower(), None)
        return attachment

    async def _subscribe(self, subject: str, handler: Handler) -> Subscription:
        async def on_message(message: Msg) -> None:
            handler(message.subject, message.headers or {}, message.data)

        # No limits here: nats-py drops what exceeds them. Handlers never wait, so no more lies here than one read.
        return await self._client.subscribe(subject, cb=on_message, pending_msgs_limit=0, pending_bytes_limit=0)

    async def until_lost(self, awaitable: Awaitable[Any]) -> None:
        """Wait for `awaitable`, but no longer than the link lasts."""
        work = asyncio.ensure_future(awaitable)
        loss = asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait({work, loss}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise LinkLost
            work.result()
        finally:
            work.cancel()
            loss.cancel()
            await asyncio.wait({work, loss})

    async def _give_up(self) -> None:
        """Clear up after an attempt to connect."""
        self.lost.set()
        # Before 2.15 nats-py stumbles over a connection that has never been made.
        with suppress(AttributeError, TimeoutError):
            # Of a connection whose handshake has failed nothing is left to be closed, and nats-py waits for it all the same.
            async with asyncio.timeout(CLOSING_S):
                await self._client.close()

    async def _keep(self) -> None:
        """Close the connection when it is lost or given up, or when the event loop cancels everything at its end."""
        try:
            await self.lost.wait()
        finally:
            self.lost.set()
            for inbox in self._inboxes:
                inbox.fail()
            await self._client.close()

    async def _on_disconnected(self) -> None:
        if self.lost.is_set() or self._client.is_closed:
            self.lost.set()
            return
        self.lost.set()
        # This runs in nats-py's reconnecting task; `_keep` closes the client, which cancels that task here.
        await asyncio.Event().wait()

    async def _on_error(self, error: Exception) -> None:
        self._last_error = error
        if self._client.is_connecting:
            raise error  # out of `connect`: there is no second attempt
        refusal = _REFUSED.search(str(error).lower())
        if refusal is None:
            logger.debug("nats-py: %s", type(error).__name__)
            return
        operation, subject = refusal.groups()
        for inbox in list(self._inboxes):
            inbox.on_refusal(operation, subject)
        for refused in self._refusals.get(subject, ()) if operation == "subscription" else ():
            refused.set()

    def _failure(self, error: Exception) -> LinkFailed:
        """Why the link could not be opened, for a person."""
        cause = self._last_error if isinstance(error, (NoServersError, TimeoutError)) and self._last_error else error
        text = str(cause).lower()
        if isinstance(cause, ssl.SSLCertVerificationError):
            return LinkFailed(f"its certificate is not to be trusted: {cause.verify_message}", hopeless=True)
        if isinstance(cause, _NoTlsError):
            return LinkFailed("it does not offer TLS", hopeless=True)
        if isinstance(cause, ssl.SSLError):
            return LinkFailed(f"TLS fails: {cause.reason or cause}")
        if "authentication timeout" in text:
            return LinkFailed("it took too long to recognise this client")
        if "connections exceeded" in text:
            return LinkFailed("it has as many connections as it may have")
        if isinstance(cause, AuthorizationError) or "authorization violation" in text:
            return LinkFailed("it does not accept these credentials", hopeless=True)
        if isinstance(cause, socket.gaierror):
            return LinkFailed("there is no host of this name", hopeless=True)
        if isinstance(cause, TimeoutError):
            return LinkFailed("nothing answers")
        if f"errno {errno.ECONNREFUSED}" in text:
            return LinkFailed("connection refused; is the broker running?")
        if isinstance(cause, OSError):
            return LinkFailed(cause.strerror or str(cause))
        return LinkFailed("what listens there is not a NATS server")
